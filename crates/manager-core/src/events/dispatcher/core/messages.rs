//! What the dispatcher's core is told, and what it answers.

use std::collections::HashMap;
use std::time::Duration;

use shared::id::{AppId, UserId};

use super::super::super::row::Row;
use super::super::super::verdict::{Settlement, Verdict};

/// Time since the dispatcher was started.
pub(crate) type Time = Duration;

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A shard is ours. `is_continued` when it was before, and nobody's in between.
    Acquired {
        shard: u8,
        suspect_max_id: i64,
        /// The last row that was there already.
        last_id: i64,
        is_continued: bool,
    },
    /// A shard may be somebody else's from now on.
    Lost {
        shard: u8,
    },
    /// Whose all apps are.
    Owners(HashMap<AppId, UserId>),
    /// Rows that were just committed here and are due.
    HandedOver(Vec<Row>),
    /// A row will be due after this time.
    DueAfter(Duration),
    /// Rows may be there that nobody handed over.
    Dirty,
    Fetched {
        fetch: u64,
        page: Page,
    },
    FetchFailed {
        fetch: u64,
    },
    Ended {
        run: u64,
        verdict: Verdict,
    },
    /// A batch is settled, but for these rows, which are no longer ours or no longer there.
    Settled {
        batch: u64,
        missed: Vec<i64>,
    },
    /// Whether a batch is settled is not known.
    SettleFailed {
        batch: u64,
    },
    /// Time has passed.
    Tick,
    /// Nothing more is to be started.
    Stop,
}

/// What a fetch found.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) rows: Vec<Row>,
    /// Rows that were left in the table because the page would have too many bytes: of which app, when they were due, and
    /// how many bytes they have.
    pub(crate) left: Vec<(AppId, i64, usize)>,
    /// Whether more is due than there was room for.
    pub(crate) is_full: bool,
    /// How many apps had rows.
    pub(crate) apps: usize,
    /// When the next row will be due.
    pub(crate) next_due: Option<Duration>,
    /// The database's clock when it looked.
    pub(crate) at_us: i64,
}

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) fetch: u64,
    pub(crate) shards: Vec<u8>,
    /// Nothing was read before: a good time to count.
    pub(crate) is_first: bool,
    /// Rows that are here already.
    pub(crate) known: Vec<i64>,
    /// Apps that have what they may have, and of which nothing is looked for.
    pub(crate) left_out: Vec<AppId>,
    /// No row is looked for that was due before this, by the database's clock.
    pub(crate) low_water_us: Option<i64>,
    pub(crate) rows_max: usize,
    pub(crate) rows_per_app: usize,
    /// Of payloads, together, but for large ones: those that have more alone.
    pub(crate) bytes_max: usize,
    pub(crate) large_max: usize,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Action {
    Fetch(Fetch),
    Run {
        run: u64,
        row: Row,
    },
    Settle {
        batch: u64,
        rows: Vec<(i64, AppId, Settlement)>,
    },
    /// Rows were committed for shards that are somebody else's.
    TellOthers,
}

/// How much is done at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capacity {
    /// Executions at once.
    pub(crate) runs: usize,
    /// Of one app.
    pub(crate) runs_per_app: usize,
    /// Rows in memory.
    pub(crate) rows: usize,
}

/// What the dispatcher did since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) started: u64,
    pub(crate) done: u64,
    pub(crate) put_off: u64,
    pub(crate) buried: u64,
    /// Rows that were not there or not ours any more when they were to be settled.
    pub(crate) missed: u64,
    pub(crate) fetches: u64,
}

impl Counts {
    pub(super) const fn count(&mut self, settlement: &Settlement) {
        match settlement {
            Settlement::Remove | Settlement::NoteFailure { .. } => self.done += 1,
            Settlement::Bury { .. } => self.buried += 1,
            Settlement::Later { .. } | Settlement::Hold { .. } => self.put_off += 1,
            Settlement::Strike { .. } => {}
        }
    }
}
