//! When the table is read: when there may be rows that nobody handed over, and there is room.

use std::collections::HashMap;
use std::time::Duration;

use super::bugs::{Bug, has};
use super::shards::Shards;
use super::window::Window;
use super::{Fetch, Page, Time};

/// How far behind what is known to be read a fetch looks: a row's time is taken before its
/// transaction commits, and transactions of ours are over by then.
const OVERLAP_US: i64 = 10_000_000;
/// After something happened the whole table is read once more, lest a row be forgotten by a fault of
/// ours. An idle platform does not do it.
const SAFETY_EVERY: Duration = Duration::from_secs(300);
/// Clocks that run side by side are never apart by more, however late an answer is.
const JUMP_US: u64 = 5_000_000;
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(2);
/// Rows of one fetch: they keep a processor of the database busy for a millisecond or two, and others wait for it.
const FETCH_ROWS_MAX: usize = 256;
/// Of each app, also when there are many: fewer are not worth a statement.
const ROWS_PER_APP_MIN: usize = 16;

#[derive(Debug)]
pub(super) struct Reading {
    is_wanted: bool,
    /// Where the last fetch broke off: of what is due, everything that was due before is known. Nothing once something
    /// has happened that this does not tell of.
    breaks_off_us: Option<i64>,
    in_flight: Option<u64>,
    next_fetch: u64,
    /// When the next row that is known of is due.
    next_due: Option<Time>,
    safety_at: Option<Time>,
    retry_at: Option<Time>,
    retry_pause: Duration,
    /// Every row that was due before is known: by the database's clock.
    read_until_us: Option<i64>,
    /// A row that is to be found once more was due then, at the earliest.
    sought_us: Option<i64>,
    /// The database's clock when it was last seen, and ours.
    clock: Option<(Time, i64)>,
    apps: usize,
    is_first: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            is_wanted: false,
            breaks_off_us: None,
            in_flight: None,
            next_fetch: 0,
            next_due: None,
            safety_at: None,
            retry_at: None,
            retry_pause: Duration::ZERO,
            read_until_us: None,
            sought_us: None,
            clock: None,
            apps: 1,
            is_first: true,
        }
    }
}

impl Reading {
    pub(super) const fn want(&mut self) {
        self.is_wanted = true;
        self.breaks_off_us = None;
    }

    /// A row that was due then is in the table, and is not known here any more.
    pub(super) fn seek(&mut self, due_us: i64) {
        self.want();
        self.sought_us = Some(self.sought_us.map_or(due_us, |known| known.min(due_us)));
    }

    /// Reads everything from the beginning.
    pub(super) fn start_over(&mut self, now: Time) {
        // A fetch that is under way does not know of it.
        self.in_flight = None;
        self.read_until_us = None;
        self.is_first = true;
        self.retry_at = None;
        self.want();
        self.note_activity(now);
    }

    pub(super) fn due_at(&mut self, at: Time) {
        self.next_due = Some(self.next_due.map_or(at, |known| known.min(at)));
    }

    pub(super) fn note_activity(&mut self, now: Time) {
        self.safety_at.get_or_insert(now + SAFETY_EVERY);
    }

    /// What to read now, if anything.
    pub(super) fn next(&mut self, now: Time, shards: &Shards, window: &Window) -> Option<Fetch> {
        if self.next_due.is_some_and(|at| at <= now) {
            self.next_due = None;
            self.want();
        }
        if self.safety_at.is_some_and(|at| at <= now) {
            self.safety_at = None;
            self.read_until_us = None;
            self.is_first = true;
            self.want();
        }
        if !self.is_wanted || self.in_flight.is_some() || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        let rows_max = window.room()?.min(FETCH_ROWS_MAX);
        self.is_wanted = false;
        self.next_fetch += 1;
        self.in_flight = Some(self.next_fetch);
        if let Some(sought) = self.sought_us.take() {
            self.read_until_us = self.read_until_us.map(|read| read.min(sought));
        }
        let overlap_us = if has(Bug::ReadsWithoutOverlap) { 0 } else { OVERLAP_US };
        let oldest = self.read_until_us.map(|read| window.oldest_due_us().map_or(read, |due| due.min(read)));
        // A backlog is read on where the last fetch broke off: behind it, the index is full of what is done.
        let low_water_us = self.breaks_off_us.take().or_else(|| oldest.map(|oldest| oldest - overlap_us));
        Some(Fetch {
            fetch: self.next_fetch,
            is_first: std::mem::take(&mut self.is_first),
            shards: shards.list(),
            known: window.ids(),
            low_water_us,
            rows_max,
            rows_per_app: (rows_max / self.apps.max(1)).max(ROWS_PER_APP_MIN),
        })
    }

    /// False when the fetch is not the one that is waited for.
    pub(super) fn done(&mut self, now: Time, fetch: u64, page: &Page) -> bool {
        if self.in_flight != Some(fetch) {
            return false;
        }
        self.in_flight = None;
        self.retry_at = None;
        self.retry_pause = Duration::ZERO;
        self.apps = page.apps;
        if page.is_full && !has(Bug::StopsWhenFull) {
            if !self.is_wanted {
                self.breaks_off_us = breaks_off_us(page);
            }
            self.is_wanted = true;
        } else {
            self.read_until_us = Some(page.at_us);
        }
        if self.has_jumped(now, page.at_us) {
            // Rows are due by the other clock, also those that are committed in a moment: whatever was
            // read, they are looked for everywhere, now and then.
            self.read_until_us = None;
            self.want();
            let then = now + Duration::from_micros(OVERLAP_US.unsigned_abs());
            self.safety_at = Some(self.safety_at.map_or(then, |known| known.min(then)));
        }
        if let Some(delay) = page.next_due.filter(|_| !has(Bug::ForgetsTheNextDue)) {
            self.due_at(now + delay);
        }
        true
    }

    /// Whether the database's clock has been set since it was last seen.
    fn has_jumped(&mut self, now: Time, at_us: i64) -> bool {
        let before = self.clock.replace((now, at_us));
        before.is_some_and(|(then, then_us)| {
            let passed_us = i64::try_from((now.saturating_sub(then)).as_micros()).unwrap_or(i64::MAX);
            (at_us - then_us).abs_diff(passed_us) > JUMP_US
        })
    }

    pub(super) fn failed(&mut self, now: Time, fetch: u64) {
        if self.in_flight == Some(fetch) {
            self.in_flight = None;
            self.want();
            self.retry_pause = (self.retry_pause * 2).clamp(RETRY_FIRST, RETRY_LONGEST);
            self.retry_at = Some(now + self.retry_pause);
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let retry = self.retry_at.filter(|_| self.is_wanted && self.in_flight.is_none());
        [retry, self.next_due, self.safety_at].into_iter().flatten().min()
    }
}

/// Where a full page breaks off: at the app of which it got least far. Nothing when there may be apps of which it has no
/// row at all: it has a second one of somebody only when it has a first one of everybody.
fn breaks_off_us(page: &Page) -> Option<i64> {
    let mut last_of = HashMap::new();
    for row in &page.rows {
        let last = last_of.entry(row.app).or_insert(row.due_us);
        *last = row.due_us.max(*last);
    }
    let has_all = last_of.len() < page.rows.len();
    let ends = last_of.into_values();
    let least = if has(Bug::ReadsOnTooFar) { ends.max() } else { ends.min() };
    // Others may be due at the same time.
    least.filter(|_| has_all).map(|least| least - 1)
}
