//! The rows in memory. Bounded: what does not fit stays in the table until there is room.

use std::collections::{HashMap, HashSet, VecDeque};

use super::Row;
use super::bugs::{Bug, has};

/// Bytes of rows at most.
const BYTES_MAX: usize = 32 << 20;
/// Stays that are over and remembered, because a fetch that began before may still show them: more
/// than are over while a fetch takes.
const OVER_MAX: usize = 16_384;

/// What a row is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// A free slot.
    Ready,
    /// A time.
    Parked,
    /// Its turn to be written down as the possible end of the platform.
    Suspect,
    /// The end of this run.
    Running(u64),
    /// The database.
    Settling,
}

#[derive(Debug)]
struct Entry {
    row: Row,
    stage: Stage,
}

#[derive(Debug)]
pub(super) struct Window {
    rows_max: usize,
    entries: HashMap<i64, Entry>,
    bytes: usize,
    over: HashSet<(i64, i64)>,
    over_in_order: VecDeque<(i64, i64)>,
}

impl Window {
    pub(super) fn new(rows_max: usize) -> Self {
        Self {
            rows_max,
            entries: HashMap::new(),
            bytes: 0,
            over: HashSet::new(),
            over_in_order: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes a row in; false when it is here, or was and is done.
    pub(super) fn insert(&mut self, row: Row, stage: Stage) -> bool {
        if self.entries.contains_key(&row.id) || self.is_over(&row) {
            return false;
        }
        self.bytes += row.bytes();
        self.entries.insert(row.id, Entry { row, stage });
        true
    }

    fn is_over(&self, row: &Row) -> bool {
        self.over.contains(&(row.id, row.due_us)) && !has(Bug::ForgetsWhatIsOver)
    }

    /// Lets go of a row; answers whether it was running.
    pub(super) fn remove(&mut self, id: i64) -> Option<(Row, bool)> {
        let Entry { row, stage } = self.entries.remove(&id)?;
        self.bytes -= row.bytes();
        if stage == Stage::Settling {
            self.remember((row.id, row.due_us));
        }
        Some((row, matches!(stage, Stage::Running(_))))
    }

    fn remember(&mut self, stay: (i64, i64)) {
        if self.over.insert(stay) {
            self.over_in_order.push_back(stay);
        }
        if self.over_in_order.len() > OVER_MAX
            && let Some(oldest) = self.over_in_order.pop_front()
        {
            self.over.remove(&oldest);
        }
    }

    /// Stays in memory are another owner's business after a take-over.
    pub(super) fn forget_over(&mut self) {
        self.over.clear();
        self.over_in_order.clear();
    }

    pub(super) fn has(&self, id: i64) -> bool {
        self.entries.contains_key(&id)
    }

    pub(super) fn row(&self, id: i64) -> Option<&Row> {
        self.entries.get(&id).map(|entry| &entry.row)
    }

    pub(super) fn stage(&self, id: i64) -> Option<Stage> {
        self.entries.get(&id).map(|entry| entry.stage)
    }

    pub(super) fn set_stage(&mut self, id: i64, stage: Stage) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.stage = stage;
        }
    }

    pub(super) fn ready(&self, id: i64) -> Option<&Row> {
        self.entries.get(&id).filter(|entry| entry.stage == Stage::Ready).map(|entry| &entry.row)
    }

    pub(super) fn suspect(&self, id: i64) -> Option<&Row> {
        self.entries.get(&id).filter(|entry| entry.stage == Stage::Suspect).map(|entry| &entry.row)
    }

    /// The row of a run, unless it was let go of meanwhile.
    pub(super) fn running(&self, id: i64, run: u64) -> Option<&Row> {
        self.entries.get(&id).filter(|entry| entry.stage == Stage::Running(run)).map(|entry| &entry.row)
    }

    pub(super) fn of_shard(&self, shard: u8) -> Vec<i64> {
        let of_it = self.entries.values().filter(|entry| entry.row.shard() == shard);
        of_it.map(|entry| entry.row.id).collect()
    }

    pub(super) fn ids(&self) -> Vec<i64> {
        self.entries.keys().copied().collect()
    }

    pub(super) fn oldest_due_us(&self) -> Option<i64> {
        self.entries.values().map(|entry| entry.row.due_us).min()
    }

    /// Rows that are handed over leave room for those that a fetch brings, which are older.
    pub(super) fn has_room_for_handed_over(&self) -> bool {
        self.has_at_most(self.rows_max / 4 * 3)
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= self.rows_max
    }

    /// How many rows a fetch may bring; none while it is not worth it.
    pub(super) fn room(&self) -> Option<usize> {
        // Each row that is here makes a fetch dearer: the database passes over it on the way to the others.
        self.has_at_most(self.rows_max / 4).then(|| self.rows_max - self.entries.len())
    }

    fn has_at_most(&self, rows: usize) -> bool {
        self.entries.len() <= rows && self.bytes <= BYTES_MAX / self.rows_max * rows
    }
}
