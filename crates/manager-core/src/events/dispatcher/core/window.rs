//! The rows in memory. Bounded: what does not fit stays in the table until there is room.

use std::collections::{HashMap, HashSet, VecDeque};

use shared::id::AppId;

use super::Row;
use super::bugs::{Bug, has};
use super::shares::{Owners, Taken};

/// Bytes of rows at most, but for large ones.
const BYTES_MAX: usize = 32 << 20;
/// Rows that are more than their app's share of the bytes. They are few, each of another owner, and taken in only as a
/// fetch finds them, so that each has its turn.
const LARGE_MAX: usize = 2;
/// A fetch is not worth it for less than this part of the rows.
const WORTH_IT: usize = 128;
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

/// As what a row is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Its bytes are in its app's share.
    Share,
    /// It is one of the large ones.
    Large,
}

/// What a fetch may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) rows: usize,
    /// A row that has more is large.
    pub(super) bytes: usize,
    pub(super) large: usize,
}

#[derive(Debug)]
struct Entry {
    row: Row,
    stage: Stage,
    place: Place,
}

#[derive(Debug)]
pub(super) struct Window {
    rows_max: usize,
    entries: HashMap<i64, Entry>,
    rows: Taken,
    /// But for those of large ones.
    bytes: Taken,
    large: Taken,
    over: HashSet<(i64, i64)>,
    over_in_order: VecDeque<(i64, i64)>,
}

impl Window {
    pub(super) fn new(rows_max: usize) -> Self {
        Self {
            rows_max,
            entries: HashMap::new(),
            rows: Taken::default(),
            bytes: Taken::default(),
            large: Taken::default(),
            over: HashSet::new(),
            over_in_order: VecDeque::new(),
        }
    }

    pub(super) fn set_owners(&mut self, owners: &Owners) {
        for taken in [&mut self.rows, &mut self.bytes, &mut self.large] {
            taken.set_owners(owners.clone());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes a row in; false when it is here, or was and is done.
    pub(super) fn insert(&mut self, row: Row, stage: Stage, place: Place) -> bool {
        if self.entries.contains_key(&row.id) || self.is_over(&row) {
            return false;
        }
        self.rows.add(row.app, 1);
        match place {
            Place::Share => self.bytes.add(row.app, row.bytes()),
            Place::Large => self.large.add(row.app, 1),
        }
        self.entries.insert(row.id, Entry { row, stage, place });
        true
    }

    fn is_over(&self, row: &Row) -> bool {
        self.over.contains(&(row.id, row.due_us)) && !has(Bug::ForgetsWhatIsOver)
    }

    /// Lets go of a row; answers whether it was running.
    pub(super) fn remove(&mut self, id: i64) -> Option<(Row, bool)> {
        let Entry { row, stage, place } = self.entries.remove(&id)?;
        self.rows.remove(row.app, 1);
        match place {
            Place::Share => self.bytes.remove(row.app, row.bytes()),
            Place::Large => self.large.remove(row.app, 1),
        }
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

    /// Of all apps but these.
    pub(super) fn ids_but_of(&self, left_out: &HashSet<AppId>) -> Vec<i64> {
        let others = self.entries.values().filter(|entry| !left_out.contains(&entry.row.app));
        others.map(|entry| entry.row.id).collect()
    }

    pub(super) fn oldest_due_us(&self) -> Option<i64> {
        self.entries.values().map(|entry| entry.row.due_us).min()
    }

    /// Rows that are handed over leave room for those that a fetch brings, which are older.
    pub(super) fn has_room_for_handed_over(&self, row: &Row) -> bool {
        self.rows.has_share(self.rows_max / 4 * 3, row.app, 1)
            && self.bytes.has_share(BYTES_MAX / 4 * 3, row.app, row.bytes())
    }

    /// The place of a row that a fetch has brought, or would bring, if there is one.
    pub(super) fn place(&self, app: AppId, bytes: usize) -> Option<Place> {
        if !self.rows.has_share(self.rows_max, app, 1) {
            return None;
        }
        if self.bytes.has_share(BYTES_MAX, app, bytes) {
            return Some(Place::Share);
        }
        (self.large.all() < LARGE_MAX && self.large.of_owner(app) == 0).then_some(Place::Large)
    }

    /// Apps of which there are rows.
    pub(super) fn apps(&self) -> impl Iterator<Item = AppId> {
        self.rows.apps()
    }

    /// Whether a fetch is to bring rows of an app, the next of which has so many bytes, as far as that is known. Not
    /// while it has more than half of its share: a fetch for each row would be dear.
    pub(super) fn is_worth_reading(&self, app: AppId, bytes: usize) -> bool {
        let (rows, all_bytes) = (self.rows.share(self.rows_max, app), self.bytes.share(BYTES_MAX, app));
        rows >= self.worth_it()
            && self.rows.of_app(app) * 2 <= rows
            && self.bytes.of_app(app) * 2 <= all_bytes
            && self.place(app, bytes).is_some()
    }

    /// What a fetch may bring: of each that is left a quarter, which is the share of an app that has nothing yet. Nothing
    /// while it is not worth it for anybody.
    pub(super) fn room(&self) -> Option<Room> {
        let rows = self.rows_max.saturating_sub(self.rows.all()) / 4;
        (rows >= self.worth_it()).then(|| Room {
            rows,
            bytes: BYTES_MAX.saturating_sub(self.bytes.all()) / 4,
            large: LARGE_MAX.saturating_sub(self.large.all()),
        })
    }

    fn worth_it(&self) -> usize {
        (self.rows_max / WORTH_IT).max(1)
    }
}
