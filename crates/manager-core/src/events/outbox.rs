//! The door to the outbox for everybody who causes events.
//!
//! ```text
//! let pending = outbox.insert(&mut tx, events).await?;
//! tx.commit().await?;
//! pending.hand_over();
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::id::AppId;
use sqlx::postgres::PgConnection;
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::arrivals::{Arrival, Arrivals};
use super::event::{Due, NewEvent};
use super::row::Row;
use crate::store;

/// Events of one app that may wait: what a few hours of a busy app make. A caller beyond it is told,
/// so that one app cannot fill the disk.
pub(crate) const WAITING_MAX: i64 = 100_000;
/// Bytes of their payloads, for the same reason: seven of the largest requests and others beside them, or 2.6 KiB for
/// each event.
const WAITING_BYTES_MAX: i64 = 256 << 20;
/// Commits whose events wait for the dispatcher to take them. Beyond it they are read from the table.
const HANDED_OVER_MAX: usize = 4_096;
/// When to look for events whose writer went away before it could say whether it had committed.
const DOUBT: Duration = Duration::from_secs(1);
/// How often the table is counted, however often somebody has too many events in it.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Why events were not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EmitError {
    #[error(
        "the app has {WAITING_MAX} events waiting, or {} MiB of them; no more are accepted until some are done",
        WAITING_BYTES_MAX >> 20
    )]
    Full,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// How much waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) events: i64,
    /// Of their payloads.
    pub(super) bytes: i64,
}

/// A handle on the outbox.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inlet: Sender<Handed>,
    /// Something is in the table that the inlet had no room for.
    is_dirty: AtomicBool,
    dirty: Notify,
    arrivals: Arrivals,
    /// About how much of each app is not done. Right again after each count of the table.
    waiting: Mutex<HashMap<AppId, Load>>,
    /// When somebody had too many and the table was counted.
    counted: Mutex<Option<Instant>>,
}

/// What a commit left for the dispatcher.
#[derive(Debug)]
pub(super) enum Handed {
    Rows(Vec<Row>),
    DueAfter(Duration),
}

/// The dispatcher's end.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) handed: Receiver<Handed>,
    pub(super) arrivals: Arrivals,
    pub(super) dirty: Dirty,
}

/// Says that something is in the table that was not handed over.
#[derive(Debug)]
pub(super) struct Dirty(Arc<Shared>);

impl Load {
    pub(super) fn of_one(bytes: usize) -> Self {
        Self { events: 1, bytes: i64::try_from(bytes).unwrap_or(i64::MAX) }
    }

    pub(super) fn of(event: &NewEvent) -> Self {
        Self::of_one(event.payload.as_bytes().len())
    }

    pub(super) const fn plus(self, more: Self) -> Self {
        Self { events: self.events.saturating_add(more.events), bytes: self.bytes.saturating_add(more.bytes) }
    }

    /// Never less than nothing: what was done here may have been taken in elsewhere.
    fn minus(self, less: Self) -> Self {
        Self { events: (self.events - less.events).max(0), bytes: (self.bytes - less.bytes).max(0) }
    }
}

impl Outbox {
    pub(super) fn new() -> (Self, Outlet) {
        let (inlet, handed) = channel(HANDED_OVER_MAX);
        let shared = Arc::new(Shared {
            inlet,
            is_dirty: AtomicBool::new(false),
            dirty: Notify::new(),
            arrivals: Arrivals::default(),
            waiting: Mutex::default(),
            counted: Mutex::default(),
        });
        let arrivals = shared.arrivals.clone();
        (Self { shared: Arc::clone(&shared) }, Outlet { handed, arrivals, dirty: Dirty(shared) })
    }

    /// Writes events in the caller's transaction. What it answers is to be handed over after the
    /// commit.
    pub(crate) async fn insert(
        &self,
        conn: &mut PgConnection,
        events: Vec<NewEvent>,
    ) -> Result<Pending, EmitError> {
        if !self.has_room(conn, &loads(&events)).await? {
            return Err(EmitError::Full);
        }
        Ok(self.insert_beyond(conn, events).await?)
    }

    /// Whether apps may have so much more.
    pub(super) async fn has_room(
        &self,
        conn: &mut PgConnection,
        more: &HashMap<AppId, Load>,
    ) -> sqlx::Result<bool> {
        if !self.shared.is_over(more) {
            return Ok(true);
        }
        // Of what this node took in, another may have delivered some.
        if self.shared.may_count() {
            self.set_waiting(store::outbox::count_by_app(conn).await?);
        }
        Ok(!self.shared.is_over(more))
    }

    /// The same, however many events wait: for what must be told of those that were given up.
    pub(super) async fn insert_beyond(
        &self,
        conn: &mut PgConnection,
        events: Vec<NewEvent>,
    ) -> sqlx::Result<Pending> {
        let loads = loads(&events);
        let arrival = self.shared.arrivals.announce(loads.keys().copied());
        let delays = events.iter().filter_map(|event| match event.due {
            Due::After(delay) => Some(delay),
            Due::Now => None,
        });
        let next_due = delays.min();
        let rows = match events.is_empty() {
            true => Vec::new(),
            false => store::outbox::insert(conn, events).await?,
        };
        Ok(Pending { shared: Arc::clone(&self.shared), rows, next_due, loads, arrivals: vec![arrival] })
    }

    /// Has the dispatcher look for events of which nobody knows whether they were committed.
    pub(super) fn doubt(&self) {
        self.shared.hand(Handed::DueAfter(DOUBT));
    }

    /// Tells the dispatcher that rows became due which it has not been handed.
    pub(crate) fn nudge(&self) {
        self.shared.nudge();
    }

    /// Begins anew with the numbers of the table: events, and bytes.
    pub(super) fn set_waiting(&self, counts: Vec<(AppId, i64, i64)>) {
        let loads = counts.into_iter().map(|(app, events, bytes)| (app, Load { events, bytes }));
        *self.shared.waiting() = loads.collect();
    }

    pub(super) fn done(&self, app: AppId, load: Load) {
        self.shared.count(app, |waiting| waiting.minus(load));
    }
}

impl Dirty {
    /// Waits until there is something.
    pub(super) async fn wait(&self) {
        while !self.0.is_dirty.swap(false, Ordering::AcqRel) {
            self.0.dirty.notified().await;
        }
    }
}

impl Shared {
    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<AppId, Load>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self, more: &HashMap<AppId, Load>) -> bool {
        let waiting = self.waiting();
        more.iter().any(|(app, more)| {
            let load = waiting.get(app).copied().unwrap_or_default().plus(*more);
            load.events > WAITING_MAX || load.bytes > WAITING_BYTES_MAX
        })
    }

    /// Whether it is time to count the table; then nobody else does for a while.
    fn may_count(&self) -> bool {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = counted.is_none_or(|at| at.elapsed() >= COUNT_EVERY);
        if is_time {
            *counted = Some(Instant::now());
        }
        is_time
    }

    fn count(&self, app: AppId, change: impl FnOnce(Load) -> Load) {
        let mut waiting = self.waiting();
        let load = waiting.entry(app).or_default();
        *load = change(*load);
        if load.events == 0 {
            waiting.remove(&app);
        }
    }

    fn nudge(&self) {
        self.is_dirty.store(true, Ordering::Release);
        self.dirty.notify_one();
    }

    fn hand(&self, handed: Handed) {
        if self.inlet.try_send(handed).is_err() {
            self.nudge();
        }
    }
}

fn loads(events: &[NewEvent]) -> HashMap<AppId, Load> {
    let mut loads: HashMap<AppId, Load> = HashMap::new();
    for event in events {
        let load = loads.entry(event.app).or_default();
        *load = load.plus(Load::of(event));
    }
    loads
}

/// Events that are written and not yet committed.
#[must_use = "events that are not handed over are found only later"]
#[derive(Debug)]
pub(crate) struct Pending {
    shared: Arc<Shared>,
    rows: Vec<Row>,
    next_due: Option<Duration>,
    loads: HashMap<AppId, Load>,
    /// Whoever gives way to these events does until they are handed over.
    arrivals: Vec<Arrival>,
}

impl Pending {
    /// Adds what else was written in the same transaction.
    pub(crate) fn join(&mut self, mut other: Self) {
        self.rows.append(&mut other.rows);
        self.next_due = [self.next_due, other.next_due.take()].into_iter().flatten().min();
        for (app, more) in other.loads.drain() {
            let load = self.loads.entry(app).or_default();
            *load = load.plus(more);
        }
        self.arrivals.append(&mut other.arrivals);
    }

    /// Lets the events be, because their transaction is rolled back; answers how many there were.
    pub(crate) fn forget(mut self) -> usize {
        self.next_due = None;
        std::mem::take(&mut self.rows).len()
    }

    /// Gives the events to the dispatcher. Only after the commit.
    pub(crate) fn hand_over(mut self) {
        for (app, load) in self.loads.drain() {
            self.shared.count(app, |waiting| waiting.plus(load));
        }
        let rows = std::mem::take(&mut self.rows);
        if !rows.is_empty() {
            self.shared.hand(Handed::Rows(rows));
        }
        if let Some(delay) = self.next_due.take() {
            self.shared.hand(Handed::DueAfter(delay));
        }
    }
}

impl Drop for Pending {
    /// Whoever wrote the events went away, perhaps between the commit and this: then they are found
    /// in the table.
    fn drop(&mut self) {
        if !self.rows.is_empty() || self.next_due.is_some() {
            self.shared.hand(Handed::DueAfter(DOUBT));
        }
    }
}
