//! When the table is read: when there may be rows that nobody handed over, and there is room.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use shared::id::AppId;

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
/// So many apps are looked at in each step, to see whether they may have what they are owed; more of them not so often.
const OWED_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Reading {
    is_wanted: bool,
    in_flight: Option<InFlight>,
    next_fetch: u64,
    /// When the next row that is known of is due.
    next_due: Option<Time>,
    safety_at: Option<Time>,
    retry_at: Option<Time>,
    retry_pause: Duration,
    /// Every row that was due before is known, but for those that apps are owed: by the database's clock.
    read_until_us: Option<i64>,
    /// A row that is to be found once more was due then, at the earliest.
    sought_us: Option<i64>,
    /// Apps of which something is left in the table: until they have room for it, or until a backlog is read on.
    owed: HashMap<AppId, Owed>,
    /// When to look at them again, if they are many.
    look_at: Time,
    is_look_due: bool,
    /// The database's clock when it was last seen, and ours.
    clock: Option<(Time, i64)>,
    apps: usize,
    is_first: bool,
}

/// What an app is owed.
#[derive(Debug, Clone, Copy)]
struct Owed {
    /// Every row of the app that was due before is known. None when that cannot be said of any.
    since_us: Option<i64>,
    /// What a row needs that found no room.
    bytes: usize,
}

#[derive(Debug)]
struct InFlight {
    fetch: u64,
    /// It looks for whatever there may be, and not only for what apps are owed.
    is_whole: bool,
    low_water_us: Option<i64>,
    left_out: HashSet<AppId>,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            is_wanted: false,
            in_flight: None,
            next_fetch: 0,
            next_due: None,
            safety_at: None,
            retry_at: None,
            retry_pause: Duration::ZERO,
            read_until_us: None,
            sought_us: None,
            owed: HashMap::new(),
            look_at: Time::ZERO,
            is_look_due: false,
            clock: None,
            apps: 1,
            is_first: true,
        }
    }
}

impl Reading {
    pub(super) const fn want(&mut self) {
        self.is_wanted = true;
    }

    /// A row that was due then is in the table, and is not known here any more.
    pub(super) fn seek(&mut self, due_us: i64) {
        self.want();
        self.sought_us = Some(self.sought_us.map_or(due_us, |known| known.min(due_us)));
    }

    /// Rows of an app that were due since then are left in the table, one of them with so many bytes, until the app has
    /// room for them.
    pub(super) fn owe(&mut self, app: AppId, since_us: Option<i64>, bytes: usize) {
        let owed = self.owed.entry(app).or_insert(Owed { since_us, bytes });
        // What is not known is the least.
        owed.since_us = owed.since_us.min(since_us);
        owed.bytes = owed.bytes.max(bytes);
    }

    /// Reads everything from the beginning.
    pub(super) fn start_over(&mut self, now: Time) {
        // A fetch that is under way does not know of it.
        self.in_flight = None;
        self.read_until_us = None;
        self.owed.clear();
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
        if self.in_flight.is_some() || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        let is_whole = self.is_wanted;
        if !is_whole && !self.is_somebody_owed(now, window) {
            return None;
        }
        let room = window.room()?;
        let rows_max = room.rows.min(FETCH_ROWS_MAX);
        self.is_wanted = false;
        self.next_fetch += 1;
        let (left_out, owed_since) = self.leave_out(window);
        let low_water_us = match is_whole {
            true => self.low_water_us(owed_since, window),
            // It is read on from there: behind it, the index is full of what is done.
            false => owed_since.flatten().map(|since| since - 1),
        };
        let wanted = Fetch {
            fetch: self.next_fetch,
            is_first: std::mem::take(&mut self.is_first),
            shards: shards.list(),
            known: window.ids_but_of(&left_out),
            left_out: left_out.iter().copied().collect(),
            low_water_us,
            rows_max,
            rows_per_app: (rows_max / self.apps.max(1)).max(ROWS_PER_APP_MIN),
            bytes_max: room.bytes,
            // One at a time: two may be of one owner.
            large_max: room.large.min(1),
        };
        self.in_flight = Some(InFlight { fetch: self.next_fetch, is_whole, low_water_us, left_out });
        Some(wanted)
    }

    /// Where to begin to look for whatever there may be, and for what some apps are owed since then.
    fn low_water_us(&mut self, owed_since: Option<Option<i64>>, window: &Window) -> Option<i64> {
        // What is not known is the least.
        self.read_until_us = owed_since.map_or(self.read_until_us, |since| self.read_until_us.min(since));
        if let Some(sought) = self.sought_us.take() {
            self.read_until_us = self.read_until_us.map(|read| read.min(sought));
        }
        let overlap_us = if has(Bug::ReadsWithoutOverlap) { 0 } else { OVERLAP_US };
        let oldest = self.read_until_us.map(|read| window.oldest_due_us().map_or(read, |due| due.min(read)));
        oldest.map(|oldest| oldest - overlap_us)
    }

    /// Whether an app has room for what it is owed.
    fn is_somebody_owed(&mut self, now: Time, window: &Window) -> bool {
        self.is_look_due = self.owed.len() > OWED_MAX && now < self.look_at;
        if self.is_look_due {
            return false;
        }
        self.look_at = now + Duration::from_micros(u64::try_from(self.owed.len()).unwrap_or(u64::MAX));
        self.owed.iter().any(|(app, owed)| window.is_worth_reading(*app, owed.bytes))
    }

    /// The apps that a fetch leaves out, because they have what they may have; and since when something is owed to the
    /// others, if anything is.
    fn leave_out(&mut self, window: &Window) -> (HashSet<AppId>, Option<Option<i64>>) {
        let owed = self.owed.iter().map(|(app, owed)| (*app, owed.bytes));
        let all = window.apps().map(|app| (app, 0)).chain(owed);
        let left_out: HashSet<AppId> =
            all.filter(|(app, bytes)| !window.is_worth_reading(*app, *bytes)).map(|(app, _)| app).collect();
        let looked_for = self.owed.iter().filter(|(app, _)| !left_out.contains(app));
        let since = looked_for.map(|(_, owed)| owed.since_us).min();
        self.owed.retain(|app, _| left_out.contains(app));
        (left_out, since)
    }

    /// False when the fetch is not the one that is waited for.
    pub(super) fn done(&mut self, now: Time, fetch: u64, page: &Page) -> bool {
        let Some(flight) = self.in_flight.take_if(|flight| flight.fetch == fetch) else { return false };
        for (app, due_us, bytes) in &page.left {
            self.owe(*app, Some(*due_us), *bytes);
        }
        if flight.is_whole {
            for app in flight.left_out {
                self.owe(app, flight.low_water_us, 0);
            }
        }
        self.retry_at = None;
        self.retry_pause = Duration::ZERO;
        self.apps = page.apps;
        let is_cut = page.is_full && !has(Bug::StopsWhenFull);
        let ends = if is_cut { ends_of(page) } else { Some(Vec::new()) };
        match ends {
            Some(ends) => {
                for (app, due_us) in ends {
                    self.owe(app, Some(due_us), 0);
                }
                if flight.is_whole {
                    self.read_until_us = Some(page.at_us);
                }
            }
            None => self.look_again(flight.is_whole, flight.low_water_us),
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
        if let Some(flight) = self.in_flight.take_if(|flight| flight.fetch == fetch) {
            self.look_again(flight.is_whole, flight.low_water_us);
            self.retry_pause = (self.retry_pause * 2).clamp(RETRY_FIRST, RETRY_LONGEST);
            self.retry_at = Some(now + self.retry_pause);
        }
    }

    /// Looks for whatever there may be, because a fetch did not bring what it was to bring.
    fn look_again(&mut self, was_whole: bool, low_water_us: Option<i64>) {
        if !was_whole {
            self.read_until_us = self.read_until_us.min(low_water_us);
        }
        self.want();
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let retry = self.retry_at.filter(|_| self.is_wanted && self.in_flight.is_none());
        let look =
            Some(self.look_at).filter(|_| self.is_look_due && !self.is_wanted && self.in_flight.is_none());
        [retry, look, self.next_due, self.safety_at].into_iter().flatten().min()
    }
}

/// Where a full page breaks off: the apps of which there may be more, and when the last of each was due that it has.
/// Nothing when there may be apps of which it has no row at all: it has a second one of somebody only when it has a first
/// one of everybody.
fn ends_of(page: &Page) -> Option<Vec<(AppId, i64)>> {
    let mut found: HashMap<AppId, (usize, i64)> = HashMap::new();
    let rows = page.rows.iter().map(|row| (row.app, row.due_us));
    for (app, due_us) in rows.chain(page.left.iter().map(|(app, due_us, _)| (*app, *due_us))) {
        let (count, last) = found.entry(app).or_insert((0, due_us));
        *count += 1;
        *last = due_us.max(*last);
    }
    let most = found.values().map(|(count, _)| *count).max().filter(|most| *most > 1)?;
    let furthest = found.values().map(|(_, last)| *last).max().filter(|_| has(Bug::ReadsOnTooFar));
    // Of others it would have had another one before the last of these.
    let cut = found.into_iter().filter(|(_, (count, _))| count + 1 >= most);
    Some(cut.map(|(app, (_, last))| (app, furthest.unwrap_or(last))).collect())
}
