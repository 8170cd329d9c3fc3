//! The dispatcher's decisions, without clock, database or tasks: what happened goes in with the time,
//! what is to be done comes out. So a simulator can run it through years of bad days in a second.
//!
//! A row is claimed by being here: its shard has no other dispatcher. The table is read at take-over,
//! for rows that were not due or had no room when they were written, and once in a while.

mod apps;
mod bugs;
mod messages;
mod reading;
mod settling;
mod shards;
mod shares;
mod suspects;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use shared::id::AppId;

use self::apps::Apps;
use self::bugs::{Bug, has};
pub(crate) use self::messages::{Action, Capacity, Counts, Event, Fetch, Page, Time};
use self::reading::Reading;
use self::settling::Settling;
use self::shards::Shards;
use self::shares::Owners;
use self::suspects::Suspects;
use self::window::{Place, Stage, Window};
use super::super::row::{Role, Row, SHARDS, shard_of};
use super::super::verdict::{self, STRIKES_MAX, Settlement, Verdict};

/// What is put off for less than this stays in memory: a write would cost more.
const PARK_MAX: Duration = Duration::from_secs(2);

/// Rows that are ready, of others than the one who asks: some milliseconds' work.
const BACKLOG: usize = 128;
/// Rows that are ready, of one who has no backlog.
const FEW: usize = 8;

#[derive(Debug)]
pub(crate) struct Core {
    capacity: Capacity,
    shards: Shards,
    window: Window,
    apps: Apps,
    suspects: Suspects,
    /// Rows that wait in memory for a time.
    parked: BTreeSet<(Time, i64)>,
    settling: Settling,
    reading: Reading,
    /// What runs, also of shards that were lost meanwhile.
    runs: HashMap<u64, i64>,
    next_run: u64,
    chance: u64,
    is_stopping: bool,
    pub(crate) counts: Counts,
}

impl Core {
    /// `seed` decides the jitter of retries.
    pub(crate) fn new(capacity: Capacity, seed: u64) -> Self {
        Self {
            capacity,
            shards: Shards::default(),
            window: Window::new(capacity.rows),
            apps: Apps::default(),
            suspects: Suspects::default(),
            parked: BTreeSet::new(),
            settling: Settling::default(),
            reading: Reading::default(),
            runs: HashMap::new(),
            next_run: 0,
            chance: seed | 1,
            is_stopping: false,
            counts: Counts::default(),
        }
    }

    /// Takes in what happened and says what to do.
    pub(crate) fn step(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Acquired { shard, suspect_max_id, last_id, is_continued } => {
                self.acquired(now, shard, is_continued);
                self.shards.acquire(shard, suspect_max_id, last_id);
            }
            Event::Lost { shard } if !has(Bug::IgnoresLoss) => self.lost(shard),
            Event::Lost { .. } => {}
            Event::Owners(known) => {
                let owners = Owners::new(known);
                self.window.set_owners(&owners);
                self.apps.set_owners(owners);
            }
            Event::HandedOver(rows) => self.handed_over(now, rows, actions),
            Event::DueAfter(delay) => {
                self.reading.due_at(now + delay);
                if !self.shards.owns_all() {
                    actions.push(Action::TellOthers);
                }
            }
            Event::Dirty => self.reading.want(),
            Event::Fetched { fetch, page } => self.fetched(now, fetch, page),
            Event::FetchFailed { fetch } => self.reading.failed(now, fetch),
            Event::Ended { run, verdict } => self.ended(now, run, verdict),
            Event::Settled { batch, missed } => self.settled(now, batch, &missed),
            Event::SettleFailed { batch } => self.settling.failed(now, batch),
            Event::Tick => {}
            Event::Stop => self.is_stopping = true,
        }
        self.advance(now, actions);
    }

    /// When to be asked again at the latest, if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let parked = self.parked.first().map(|(at, _)| *at).filter(|_| !self.is_stopping);
        let reading = self.reading.deadline().filter(|_| !self.is_stopping && self.shards.owns_any());
        [parked, reading, self.settling.deadline()].into_iter().flatten().min()
    }

    /// Whether nothing runs and nothing is left to be written.
    pub(crate) fn is_idle(&self) -> bool {
        self.runs.is_empty() && self.settling.is_empty()
    }

    /// Rows in memory, and how many of them run.
    pub(crate) fn load(&self) -> (usize, usize) {
        (self.window.len(), self.runs.len())
    }

    /// Bytes of a row's payload, while it is here.
    pub(crate) fn payload_bytes(&self, id: i64) -> usize {
        self.window.row(id).map_or(0, |row| row.task.payload.as_bytes().len())
    }

    /// Whether an event of this app, when it comes, is to find others' backlogs at rest.
    pub(crate) fn yields_to(&self, app: AppId) -> bool {
        let (own, others) = self.apps.ready(app);
        own < FEW && others >= BACKLOG
    }

    fn acquired(&mut self, now: Time, shard: u8, is_continued: bool) {
        if !is_continued && !has(Bug::KeepsWhatIsForeign) {
            // Whatever was begun here is another's by now.
            for id in self.window.of_shard(shard) {
                self.forget(id);
            }
            self.settling.drop_shard(shard);
        }
        // A database that was restarted may have brought back what was done: it has to be done again,
        // or its row would stay for ever.
        self.window.forget_over();
        self.settling.resume();
        self.reading.start_over(now);
    }

    fn lost(&mut self, shard: u8) {
        self.shards.lose(shard);
        self.settling.doubt();
        for id in self.window.of_shard(shard) {
            // What runs, or waits to be written, is kept: perhaps the shard comes back as it was.
            match self.window.stage(id) {
                Some(Stage::Ready | Stage::Parked) if self.suspects.is_at_large(id) => self.acquit(id),
                Some(Stage::Ready | Stage::Parked | Stage::Suspect) => self.forget(id),
                _ => {}
            }
        }
    }

    /// Takes the strike back from a suspect that has not run.
    fn acquit(&mut self, id: i64) {
        let Some(Row { app, attempts, strikes, .. }) = self.window.row(id).cloned() else { return };
        self.suspects.finished(id);
        self.window.set_stage(id, Stage::Settling);
        let settlement = Settlement::Later { attempts, strikes, delay: Duration::ZERO, error: None };
        self.settling.push(id, app, settlement);
    }

    fn handed_over(&mut self, now: Time, rows: Vec<Row>, actions: &mut Vec<Action>) {
        self.reading.note_activity(now);
        let mut is_elsewhere = false;
        for row in rows {
            if !self.shards.owns(row.shard()) {
                is_elsewhere = true;
            } else if self.is_found_by_a_fetch(&row) {
                self.reading.seek(row.due_us);
            } else if self.window.has_room_for_handed_over(&row) {
                self.take_in(row, Place::Share);
            } else {
                self.reading.owe(row.app, Some(row.due_us), row.bytes());
            }
        }
        if is_elsewhere {
            actions.push(Action::TellOthers);
        }
    }

    /// Whether a row that is handed over is left in the table, because it alone knows when and as what the
    /// row is to run.
    fn is_found_by_a_fetch(&self, row: &Row) -> bool {
        // What is in order is found in order.
        row.is_ordered && !has(Bug::RunsOutOfOrder)
            // Whoever handed it over may have been held up since the commit. The row may have been found and
            // tried meanwhile, by another owner or by us, and have attempts and strikes that are not said here.
            || self.shards.is_inherited(row) && !has(Bug::TrustsLateHandOvers)
    }

    fn fetched(&mut self, now: Time, fetch: u64, page: Page) {
        if !self.reading.done(now, fetch, &page) {
            return;
        }
        for row in page.rows {
            if !self.shards.owns(row.shard()) || self.window.has(row.id) {
                continue;
            }
            match self.window.place(row.app, row.bytes()) {
                Some(place) => self.take_in(row, place),
                // Its app has what it may have, perhaps by what was handed over meanwhile.
                None => self.reading.owe(row.app, Some(row.due_us), row.bytes()),
            }
        }
    }

    fn take_in(&mut self, mut row: Row, place: Place) {
        row.is_suspect = self.shards.is_suspect(&row) && !has(Bug::RunsSuspectsUnmarked);
        let (id, app) = (row.id, row.app);
        if row.strikes >= STRIKES_MAX {
            let settlement = verdict::poisoned(&row);
            if self.window.insert(row, Stage::Settling, place) {
                self.counts.count(&settlement);
                self.settling.push(id, app, settlement);
            }
        } else if row.is_suspect {
            if self.window.insert(row, Stage::Suspect, place) {
                self.suspects.push(id);
            }
        } else if self.window.insert(row, Stage::Ready, place) {
            self.apps.push(app, id);
        }
    }

    fn ended(&mut self, now: Time, run: u64, mut verdict: Verdict) {
        let Some(id) = self.runs.remove(&run) else { return };
        let Some(row) = self.window.running(id, run) else {
            self.apps.look_again();
            return;
        };
        self.apps.finished(row.app);
        if has(Bug::CountsOverload) && matches!(verdict, Verdict::PutOff(_)) {
            verdict = Verdict::Failed { error: String::new(), killed_worker: false };
        }
        if let Verdict::PutOff(delay) = verdict
            && delay < PARK_MAX
            && row.role == Role::Event
            && self.shards.owns(row.shard())
        {
            self.window.set_stage(id, Stage::Parked);
            self.parked.insert((now + delay, id));
            return;
        }
        let chance = self.chance();
        let Some(mut row) = self.window.row(id).cloned() else { return };
        if has(Bug::RetriesForEver) {
            row.retry.max_attempts = u16::MAX;
        }
        if has(Bug::RetriesHandlers) {
            row.role = Role::Event;
        }
        let app = row.app;
        let settlement = verdict::settle(&row, verdict, chance);
        self.suspects.finished(id);
        self.counts.count(&settlement);
        self.window.set_stage(id, Stage::Settling);
        self.settling.push_from(now, id, app, settlement);
    }

    fn settled(&mut self, now: Time, batch: u64, missed: &[i64]) {
        let Some(rows) = self.settling.done(batch) else { return };
        self.counts.missed += missed.len() as u64;
        self.reading.note_activity(now);
        for (id, _, settlement) in rows {
            let Some(row) = self.window.row(id) else { continue };
            let (app, due_us) = (row.app, row.due_us);
            let next_of_key = row.is_ordered.then_some(row.enqueued_us);
            if missed.contains(&id) {
                // It was done, or refused to an owner that we are no more: then it is still there.
                self.window.set_stage(id, Stage::Ready);
                self.forget(id);
                self.reading.seek(next_of_key.unwrap_or(due_us).min(due_us));
                continue;
            }
            match settlement {
                // The shard was lost meanwhile: it does not run here.
                Settlement::Strike { .. } if !self.shards.owns(shard_of(app)) => self.acquit(id),
                Settlement::Strike { .. } => {
                    self.window.set_stage(id, Stage::Ready);
                    self.apps.push(app, id);
                }
                Settlement::Later { delay, .. } => {
                    self.forget(id);
                    self.reading.due_at(now + delay);
                }
                Settlement::Remove
                | Settlement::Bury { .. }
                | Settlement::NoteFailure { .. }
                | Settlement::Hold { .. } => {
                    self.forget(id);
                    // The next of its key can be found from now on. It may have been due for long.
                    if let Some(enqueued_us) = next_of_key {
                        self.reading.seek(enqueued_us);
                    }
                }
            }
        }
    }

    fn forget(&mut self, id: i64) {
        if let Some((row, was_running)) = self.window.remove(id) {
            self.suspects.finished(id);
            if was_running {
                self.apps.finished(row.app);
            }
        }
    }

    /// Does what has become possible.
    fn advance(&mut self, now: Time, actions: &mut Vec<Action>) {
        if !self.is_stopping {
            self.unpark(now);
            self.strike_suspects();
            self.start(actions);
        }
        if let Some((batch, rows)) = self.settling.next(now, &self.shards, self.is_stopping) {
            actions.push(Action::Settle { batch, rows });
        }
        if !self.is_stopping && self.shards.owns_any() {
            let known = &self.window;
            if let Some(fetch) = self.reading.next(now, &self.shards, known) {
                self.counts.fetches += 1;
                actions.push(Action::Fetch(fetch));
            }
        }
    }

    fn unpark(&mut self, now: Time) {
        while let Some(&(at, id)) = self.parked.first()
            && at <= now
        {
            self.parked.pop_first();
            if self.window.stage(id) == Some(Stage::Parked)
                && let Some(app) = self.window.row(id).map(|row| row.app)
            {
                self.window.set_stage(id, Stage::Ready);
                self.apps.push(app, id);
            }
        }
    }

    fn strike_suspects(&mut self) {
        while let Some((id, strikes)) = self.suspects.pop(|id| self.window.suspect(id).map(|row| row.strikes))
        {
            let Some(app) = self.window.row(id).map(|row| row.app) else { continue };
            self.window.set_stage(id, Stage::Settling);
            self.settling.push(id, app, Settlement::Strike { strikes: strikes + 1 });
        }
    }

    fn start(&mut self, actions: &mut Vec<Action>) {
        while let Some(id) = self.apps.pop(self.free_runs(), self.capacity.runs_per_app) {
            let Some(row) = self.window.ready(id) else { continue };
            let row = row.clone();
            self.next_run += 1;
            self.apps.started(row.app);
            self.window.set_stage(id, Stage::Running(self.next_run));
            self.runs.insert(self.next_run, id);
            self.counts.started += 1;
            if has(Bug::RemovesBeforeTheEnd) {
                self.settling.push(id, row.app, Settlement::Remove);
            }
            actions.push(Action::Run { run: self.next_run, row });
        }
    }

    fn free_runs(&self) -> usize {
        match has(Bug::IgnoresCapacity) {
            true => usize::MAX,
            false => self.capacity.runs.saturating_sub(self.runs.len()),
        }
    }

    /// A number that is different each time: xorshift, which is enough to spread retries.
    fn chance(&mut self) -> u32 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        u32::try_from(self.chance >> 32).unwrap_or_default()
    }
}
