//! The database of the simulated world: rows, shards with their locks, a clock of its own, and a disk
//! that is a little behind.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use shared::id::AppId;

use super::super::{Event, Fetch, Page, Row, SHARDS, Settlement, Time};

/// What is committed lazily is on the disk after this.
const DISK_LAG: Duration = Duration::from_millis(600);

#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) row: Row,
    pub(super) key: Option<u8>,
    /// None while it is held.
    pub(super) due_us: i64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Shard {
    pub(super) owner: Option<u64>,
    pub(super) is_clean: bool,
    pub(super) suspect_max_id: i64,
    /// The node whose connection has the lock.
    pub(super) locked_by: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Database {
    pub(super) rows: BTreeMap<i64, Stored>,
    pub(super) shards: Vec<Shard>,
    /// How far its clock is from the true time.
    pub(super) clock_us: i64,
    removed_lazily: Vec<(Time, i64, Stored)>,
    /// Settlements that were refused because their owner was deposed.
    pub(super) fenced: u64,
}

/// Far from the epoch, so that clocks can go back.
const BEGINNING_US: i64 = 1_700_000_000_000_000;

impl Database {
    pub(super) fn new() -> Self {
        let shard = Shard { is_clean: true, ..Shard::default() };
        Self {
            rows: BTreeMap::new(),
            shards: vec![shard; SHARDS.into()],
            clock_us: BEGINNING_US,
            removed_lazily: Vec::new(),
            fenced: 0,
        }
    }

    pub(super) fn now_us(&self, now: Time) -> i64 {
        self.clock_us + i64::try_from(now.as_micros()).unwrap()
    }

    /// Takes free shards for a node; answers them with what the core is told.
    pub(super) fn acquire(&mut self, node: usize, owner: u64, previous: Option<u64>) -> Vec<(u8, Event)> {
        let last_id = self.rows.keys().next_back().copied().unwrap_or(0);
        let mut acquired = Vec::new();
        for (number, shard) in (0..SHARDS).zip(&mut self.shards) {
            if shard.locked_by.is_some() {
                continue;
            }
            let is_continued = shard.owner.is_some() && shard.owner == previous;
            if !shard.is_clean && !is_continued {
                shard.suspect_max_id = last_id;
            }
            (shard.owner, shard.is_clean, shard.locked_by) = (Some(owner), false, Some(node));
            let suspect_max_id = shard.suspect_max_id;
            acquired.push((number, Event::Acquired { shard: number, suspect_max_id, last_id, is_continued }));
        }
        acquired
    }

    /// An owner that has nothing running gives its shards up.
    pub(super) fn release(&mut self, owner: u64) {
        for shard in self.shards.iter_mut().filter(|shard| shard.owner == Some(owner)) {
            (shard.owner, shard.is_clean) = (None, true);
        }
    }

    /// A connection ends, and its locks are free.
    pub(super) fn unlock(&mut self, node: usize) {
        for shard in &mut self.shards {
            if shard.locked_by == Some(node) {
                shard.locked_by = None;
            }
        }
    }

    pub(super) fn fetch(&self, now: Time, wanted: &Fetch) -> Page {
        let now_us = self.now_us(now);
        let low_water = wanted.low_water_us.unwrap_or(i64::MIN);
        let mut per_app: HashMap<AppId, usize> = HashMap::new();
        let (mut found, mut places) = (Page { at_us: now_us, ..Page::default() }, Vec::new());
        let mut stored: Vec<_> =
            self.rows.values().filter(|stored| wanted.shards.contains(&stored.row.shard())).collect();
        stored.sort_by_key(|stored| (stored.due_us, stored.row.id));
        for stored in stored {
            if stored.due_us > now_us {
                let delay = Duration::from_micros((stored.due_us - now_us).unsigned_abs());
                found.next_due = Some(found.next_due.map_or(delay, |known| known.min(delay)));
                continue;
            }
            let is_left_out = wanted.left_out.contains(&stored.row.app);
            let is_wanted =
                stored.due_us > low_water && !wanted.known.contains(&stored.row.id) && !is_left_out;
            if !is_wanted || !self.is_first_of_key(stored) {
                continue;
            }
            let count = per_app.entry(stored.row.app).or_default();
            if *count >= wanted.rows_per_app {
                found.is_full = true;
                continue;
            }
            *count += 1;
            places.push((*count, Row { due_us: stored.due_us, ..stored.row.clone() }));
        }
        // The first of each app, then the second: nobody hides behind another's backlog.
        places.sort_by_key(|(place, row)| (*place, row.due_us));
        found.is_full |= places.len() > wanted.rows_max;
        places.truncate(wanted.rows_max);
        found.rows = places.into_iter().map(|(_, row)| row).collect();
        found.apps = found.rows.iter().map(|row| row.app).collect::<HashSet<_>>().len();
        found
    }

    pub(super) fn is_first_of_key(&self, stored: &Stored) -> bool {
        self.is_first_of_key_but(stored, &|_| false)
    }

    /// The same, rows left out that do not count.
    pub(super) fn is_first_of_key_but(&self, stored: &Stored, is_out: &dyn Fn(i64) -> bool) -> bool {
        let Some(key) = stored.key else { return true };
        let same = |other: &&Stored| other.key == Some(key) && other.row.app == stored.row.app;
        !self.rows.values().filter(same).any(|other| other.row.id < stored.row.id && !is_out(other.row.id))
    }

    /// Applies a settlement; false when the row is not there or not the owner's.
    pub(super) fn settle(&mut self, now: Time, owner: u64, id: i64, settlement: &Settlement) -> bool {
        let now_us = self.now_us(now);
        let Some(stored) = self.rows.get_mut(&id) else { return false };
        if self.shards[usize::from(stored.row.shard())].owner != Some(owner) {
            self.fenced += 1;
            return false;
        }
        match settlement {
            Settlement::Remove => {
                let stored = self.rows.remove(&id).unwrap();
                self.removed_lazily.push((now, id, stored));
            }
            Settlement::Bury { .. } | Settlement::NoteFailure { .. } => drop(self.rows.remove(&id)),
            Settlement::Later { attempts, strikes, delay, .. } => {
                (stored.row.attempts, stored.row.strikes) = (*attempts, *strikes);
                stored.due_us = now_us + i64::try_from(delay.as_micros()).unwrap();
            }
            Settlement::Hold { .. } => stored.due_us = now_us + 1_000_000,
            Settlement::Strike { strikes } => stored.row.strikes = *strikes,
        }
        true
    }

    /// The server restarts: connections end, and what was not on the disk is undone.
    pub(super) fn crash(&mut self, now: Time, is_undone: &mut dyn FnMut() -> bool) -> Vec<i64> {
        for shard in &mut self.shards {
            shard.locked_by = None;
        }
        let mut back = Vec::new();
        // What is undone is a tail: the log is cut at one place.
        let mut is_cut = false;
        for (at, id, stored) in self.removed_lazily.drain(..) {
            is_cut |= now.saturating_sub(at) < DISK_LAG && is_undone();
            if is_cut {
                self.rows.insert(id, stored);
                back.push(id);
            }
        }
        back
    }
}
