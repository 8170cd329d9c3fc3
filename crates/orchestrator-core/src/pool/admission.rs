//! Who runs next: queues per app, drawn from in turn, weighted by the fuel each app has burnt.
//!
//! Deficit round robin: an app in turn may start executions while its deficit is positive. What an
//! execution costs is known only afterwards, so it is charged then, and an app that burnt much waits
//! for more turns. Pure bookkeeping, without clock or I/O.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use shared::id::{AppId, UserId};
use shared::limits::MEMORY_MB_MAX;

use super::lines::Lines;
use super::tenancy::Tenant;

/// Fuel an app earns in each turn: about a millisecond of CPU.
const QUANTUM: i64 = 10_000_000;
/// Most turns' worth of fuel an app can owe, so that one long execution does not exclude it for
/// minutes.
const DEBT_MAX: i64 = 50 * QUANTUM;

/// A job that can be told apart and belongs to an app.
pub(super) trait Queued {
    fn app(&self) -> AppId;
    fn ticket(&self) -> u64;
    /// Whose worker it is to run in.
    fn tenant(&self) -> Tenant;
    /// Most memory it can have, in MiB.
    fn memory_mb(&self) -> u32;
    /// Whether it goes before its app's load, whose limits are not for it. The caller sees to it that an app has few.
    fn is_ahead(&self) -> bool;
    /// Whether somebody waits for it who has a slot, so that it goes before its app's load.
    fn is_nested(&self) -> bool;
}

/// What an execution that has ended gives back, and what it owes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub(super) app: AppId,
    pub(super) memory_mb: u32,
    pub(super) fuel: u64,
}

/// What executions of one app may have at a time.
#[derive(Debug, Clone, Copy)]
struct Share {
    running: usize,
    memory_mb: u64,
    /// Nested ones beyond it at least.
    nested_min: usize,
}

impl Share {
    /// With what is kept for nested ones: without it an app whose callers have its whole share could call nothing. A
    /// quarter and no more, or calling would be a way around every share.
    fn with_nested(self) -> Self {
        let memory_mb = (self.memory_mb / 4).max(MEMORY_MB_MAX.into());
        Self {
            running: self.running + (self.running / 4).max(self.nested_min),
            memory_mb: self.memory_mb.saturating_add(memory_mb),
            ..self
        }
    }
}

#[derive(Debug)]
struct AppQueue<J> {
    jobs: Lines<J>,
    /// Whose app it is, once that was said.
    owner: Option<UserId>,
    running: usize,
    /// What those may have that run.
    memory_mb: u64,
    deficit: i64,
}

impl<J> Default for AppQueue<J> {
    fn default() -> Self {
        Self { jobs: Lines::default(), owner: None, running: 0, memory_mb: 0, deficit: QUANTUM }
    }
}

impl<J: Queued> AppQueue<J> {
    /// The first job for each tenant's workers, in the order of their turns, as far as the app may have one more: who
    /// waits for the app's share is not overtaken, who waits for a worker is.
    fn fronts(&self, share: Share) -> impl Iterator<Item = &J> {
        self.jobs.fronts().take_while(move |job| self.may_run(share, job))
    }

    /// Whether a new job may start before all that wait.
    fn may_overtake(&self, share: Share, job: &J) -> bool {
        if job.is_ahead() || job.is_nested() {
            return true;
        }
        !self.jobs.has(job.tenant()) && self.jobs.fronts().all(|job| self.may_run(share, job))
    }

    /// Whether a job may run when it is its turn.
    fn may_run(&self, share: Share, job: &J) -> bool {
        if job.is_nested() {
            // Until it is done its caller's slot is not free.
            return self.has_left(share.with_nested(), job);
        }
        job.is_ahead() || self.has_left(share, job)
    }

    /// Whether its app may have one more such job.
    fn has_left(&self, share: Share, job: &J) -> bool {
        self.running < share.running && self.memory_mb + u64::from(job.memory_mb()) <= share.memory_mb
    }
}

/// How many jobs of each owner wait; of the others none do.
#[derive(Debug, Default)]
struct Owners(HashMap<UserId, usize>);

impl Owners {
    fn waiting(&self, owner: UserId) -> usize {
        self.0.get(&owner).copied().unwrap_or(0)
    }

    fn add(&mut self, owner: Option<UserId>, jobs: usize) {
        if let Some(owner) = owner.filter(|_| jobs > 0) {
            *self.0.entry(owner).or_default() += jobs;
        }
    }

    fn remove(&mut self, owner: Option<UserId>, jobs: usize) {
        let Some(Entry::Occupied(mut waiting)) = owner.map(|owner| self.0.entry(owner)) else {
            return;
        };
        *waiting.get_mut() = waiting.get().saturating_sub(jobs);
        if *waiting.get() == 0 {
            waiting.remove();
        }
    }
}

#[derive(Debug)]
pub(super) struct Admission<J> {
    apps: HashMap<AppId, AppQueue<J>>,
    /// Apps with queued jobs; the first is in turn.
    ring: VecDeque<AppId>,
    owners: Owners,
    queued: usize,
    queued_max: usize,
    /// Places beyond these, each for an owner of whom nothing waits.
    reserved: usize,
    /// Of each app.
    share: Share,
}

impl<J: Queued> Admission<J> {
    pub(super) fn new(queued_max: usize, running_per_app_max: usize) -> Self {
        let share = Share { running: running_per_app_max, memory_mb: u64::MAX, nested_min: 1 };
        Self {
            apps: HashMap::new(),
            ring: VecDeque::new(),
            owners: Owners::default(),
            queued: 0,
            queued_max,
            reserved: 0,
            share,
        }
    }

    /// With so much memory for each app, in MiB.
    pub(super) fn within(self, memory_mb: u64) -> Self {
        Self { share: Share { memory_mb, ..self.share }, ..self }
    }

    /// With room for so many nested ones of each app beyond its share, where that is more than a quarter.
    pub(super) fn nesting(self, nested_min: usize) -> Self {
        Self { share: Share { nested_min, ..self.share }, ..self }
    }

    /// With so many places beyond a full queue, one for each owner of whom nothing waits: who has no worker gets one only
    /// by waiting. Half of them are also for owners who have less than an equal share of the queue.
    pub(super) fn reserving(self, reserved: usize) -> Self {
        Self { reserved, ..self }
    }

    pub(super) const fn queued(&self) -> usize {
        self.queued
    }

    /// Whether a new job may start at once. Only one that goes ahead or is nested overtakes those of its app that wait for
    /// the same worker.
    pub(super) fn may_start(&self, job: &J) -> bool {
        let Some(queue) = self.apps.get(&job.app()) else {
            return true;
        };
        queue.may_overtake(self.share, job) && queue.may_run(self.share, job)
    }

    pub(super) fn started(&mut self, app: AppId, memory_mb: u32) {
        let queue = self.apps.entry(app).or_default();
        queue.running += 1;
        queue.memory_mb += u64::from(memory_mb);
    }

    /// Charges an ended execution to its app.
    pub(super) fn finished(&mut self, Cost { app, memory_mb, fuel }: Cost) {
        let Some(queue) = self.apps.get_mut(&app) else {
            return;
        };
        queue.running = queue.running.saturating_sub(1);
        queue.memory_mb = queue.memory_mb.saturating_sub(memory_mb.into());
        let cost = i64::try_from(fuel).unwrap_or(i64::MAX);
        queue.deficit = queue.deficit.saturating_sub(cost).max(-DEBT_MAX);
        if queue.running == 0 && queue.jobs.is_empty() {
            // An app that asks for nothing is forgotten, and so are its debts.
            self.apps.remove(&app);
        }
    }

    /// Queues a job, or gives it back when the queue is full, or the app or its owner has half of it. Without an owner that
    /// is known the app's is meant, if it has been said.
    pub(super) fn push(&mut self, owner: Option<UserId>, job: J) -> Result<(), J> {
        let app = job.app();
        if !job.is_ahead() && !self.has_place(app, owner) {
            return Err(job);
        }
        let queue = self.apps.entry(app).or_default();
        if owner.is_some() && owner != queue.owner {
            // Nobody's until now, or given away meanwhile.
            self.owners.remove(queue.owner, queue.jobs.len());
            self.owners.add(owner, queue.jobs.len());
            queue.owner = owner;
        }
        self.owners.add(queue.owner, 1);
        if queue.jobs.is_empty() {
            self.ring.push_back(app);
        }
        queue.jobs.push(job);
        self.queued += 1;
        Ok(())
    }

    /// Whether one more of an app's load may wait.
    pub(super) fn has_place(&self, app: AppId, owner: Option<UserId>) -> bool {
        let half = (self.queued_max / 2).max(1);
        let queue = self.apps.get(&app);
        let owner = owner.or_else(|| queue.and_then(|queue| queue.owner));
        let of_owner = owner.map(|owner| self.owners.waiting(owner));
        let reserved = match of_owner {
            Some(0) => self.reserved,
            Some(waiting) if waiting < self.queued_max / self.owners.0.len().max(1) => self.reserved / 2,
            _ => 0,
        };
        queue.map_or(0, |queue| queue.jobs.len()) < half
            && of_owner.unwrap_or(0) < half
            && self.queued < self.queued_max + reserved
    }

    /// Whether nothing of an app waits, and it may have one more execution.
    pub(super) fn may_run_more(&self, app: AppId) -> bool {
        let is_free = |queue: &AppQueue<J>| queue.jobs.is_empty() && queue.running < self.share.running;
        self.apps.get(&app).is_none_or(is_free)
    }

    /// How many jobs of an app wait that go before its load.
    pub(super) fn ahead(&self, app: AppId) -> usize {
        self.apps.get(&app).map_or(0, |queue| queue.jobs.ahead())
    }

    /// The first job of each app and tenant that waits while its app may start another, in the order of their turns.
    pub(super) fn fronts(&self) -> impl Iterator<Item = &J> {
        let queues = self.ring.iter().filter_map(|app| self.apps.get(app));
        queues.flat_map(|queue| queue.fronts(self.share))
    }

    /// The next job to start, of those for which there is room. The caller starts it.
    pub(super) fn pop(&mut self, has_room: impl Fn(&J) -> bool) -> Option<J> {
        // Each pass either finds a job, or gives every app below zero another quantum; debts are
        // bounded, so the passes are too.
        let mut blocked = 0;
        while blocked < self.ring.len() {
            let app = *self.ring.front()?;
            let queue = self.apps.get_mut(&app)?;
            let Some(line) = queue.fronts(self.share).position(&has_room) else {
                blocked += 1;
                self.ring.rotate_left(1);
                continue;
            };
            if queue.deficit <= 0 {
                queue.deficit += QUANTUM;
                blocked = 0;
                if queue.deficit <= 0 {
                    self.ring.rotate_left(1);
                    continue;
                }
            }
            let job = queue.jobs.pop(line);
            self.queued -= usize::from(job.is_some());
            self.owners.remove(queue.owner, usize::from(job.is_some()));
            self.leave_turn(app);
            return job;
        }
        None
    }

    /// Takes a job out of its queue.
    pub(super) fn withdraw(&mut self, ticket: u64) -> Option<J> {
        let (app, owner, job) = self
            .apps
            .iter_mut()
            .find_map(|(app, queue)| Some((*app, queue.owner, queue.jobs.withdraw(ticket)?)))?;
        self.queued -= 1;
        self.owners.remove(owner, 1);
        if self.apps.get(&app).is_some_and(|queue| queue.jobs.is_empty()) {
            self.ring.retain(|other| *other != app);
            self.forget_if_idle(app);
        }
        Some(job)
    }

    /// Empties all queues.
    pub(super) fn take_all(&mut self) -> Vec<J> {
        self.ring.clear();
        self.owners = Owners::default();
        self.queued = 0;
        self.apps.values_mut().flat_map(|queue| queue.jobs.take_all()).collect()
    }

    /// Lets each job that waits be changed, also whose worker it waits for.
    pub(super) fn change(&mut self, mut change: impl FnMut(&mut J)) {
        self.apps.values_mut().for_each(|queue| queue.jobs.change(&mut change));
    }

    fn leave_turn(&mut self, app: AppId) {
        let Some(queue) = self.apps.get_mut(&app) else {
            return;
        };
        if queue.jobs.is_empty() {
            self.ring.pop_front();
            return;
        }
        // One job a turn keeps apps with cheap scripts alternating; the deficit evens out the rest.
        self.ring.rotate_left(1);
    }

    /// For an app whose job was popped, and does not start after all.
    pub(super) fn forget_if_idle(&mut self, app: AppId) {
        if self.apps.get(&app).is_some_and(|queue| queue.running == 0 && queue.jobs.is_empty()) {
            self.apps.remove(&app);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Item(AppId, u64);

    /// Tickets from here on go ahead.
    const AHEAD: u64 = 1_000_000;
    /// From here on they are nested.
    const NESTED: u64 = 2_000_000;
    /// From here on they wait for a worker of their own.
    const WATCHED: u64 = 3_000_000;
    /// What each item may have.
    const MEMORY_MB: u32 = 100;

    impl Queued for Item {
        fn is_ahead(&self) -> bool {
            (AHEAD..NESTED).contains(&self.1)
        }

        fn is_nested(&self) -> bool {
            (NESTED..WATCHED).contains(&self.1)
        }

        fn memory_mb(&self) -> u32 {
            MEMORY_MB
        }

        fn app(&self) -> AppId {
            self.0
        }

        fn ticket(&self) -> u64 {
            self.1
        }

        fn tenant(&self) -> Tenant {
            if self.1 < WATCHED { Tenant::Anyone } else { Tenant::App(self.0) }
        }
    }

    fn start(admission: &mut Admission<Item>, app: AppId, count: usize) {
        for _ in 0..count {
            admission.started(app, MEMORY_MB);
        }
    }

    fn finish(admission: &mut Admission<Item>, app: AppId, fuel: u64) {
        admission.finished(Cost { app, memory_mb: MEMORY_MB, fuel });
    }

    /// Starts and ends `count` jobs; answers how many of them were app `a`'s.
    fn run(admission: &mut Admission<Item>, count: usize, a: AppId, cost: impl Fn(AppId) -> u64) -> usize {
        let mut of_a = 0;
        for _ in 0..count {
            let job = admission.pop(|_| true).unwrap();
            start(admission, job.0, 1);
            finish(admission, job.0, cost(job.0));
            of_a += usize::from(job.0 == a);
        }
        of_a
    }

    #[test]
    fn equal_apps_alternate() {
        let (a, b) = (AppId::new(), AppId::new());
        let mut admission = Admission::new(1000, 4);
        for ticket in 0..100 {
            admission.push(None, Item(a, ticket)).unwrap();
        }
        for ticket in 100..120 {
            admission.push(None, Item(b, ticket)).unwrap();
        }
        assert_eq!(run(&mut admission, 40, a, |_| 1000), 20);
    }

    #[test]
    fn an_app_that_burns_ten_times_the_fuel_runs_a_tenth_as_often() {
        let (greedy, modest) = (AppId::new(), AppId::new());
        let mut admission = Admission::new(10_000, 4);
        for ticket in 0..4000 {
            admission.push(None, Item(greedy, ticket)).unwrap();
            admission.push(None, Item(modest, 10_000 + ticket)).unwrap();
        }
        let cost = |app| if app == greedy { 10 * QUANTUM as u64 } else { QUANTUM as u64 };
        let share = run(&mut admission, 1100, greedy, cost);
        assert!((80..=130).contains(&share), "{share}");
    }

    #[test]
    fn an_app_at_its_cap_does_not_block_others() {
        let (a, b) = (AppId::new(), AppId::new());
        let mut admission = Admission::new(100, 1);
        admission.push(None, Item(a, 1)).unwrap();
        admission.push(None, Item(a, 2)).unwrap();
        admission.push(None, Item(b, 3)).unwrap();
        assert_eq!(admission.pop(|_| true), Some(Item(a, 1)));
        start(&mut admission, a, 1);
        assert_eq!(admission.pop(|_| true), Some(Item(b, 3)));
        start(&mut admission, b, 1);
        assert_eq!(admission.pop(|_| true), None);
        finish(&mut admission, a, 1);
        assert_eq!(admission.pop(|_| true), Some(Item(a, 2)));
    }

    #[test]
    fn an_app_without_a_worker_does_not_block_others() {
        let (a, b) = (AppId::new(), AppId::new());
        let mut admission = Admission::new(100, 4);
        admission.push(None, Item(a, 1)).unwrap();
        admission.push(None, Item(b, 2)).unwrap();
        assert_eq!(admission.pop(|job| job.0 == b), Some(Item(b, 2)));
        assert_eq!(admission.pop(|job| job.0 == b), None);
        assert_eq!(admission.fronts().collect::<Vec<_>>(), [&Item(a, 1)]);
        assert_eq!(admission.pop(|_| true), Some(Item(a, 1)));
    }

    #[test]
    fn a_job_that_waits_for_a_worker_of_its_own_holds_up_none_of_its_apps_others() {
        let a = AppId::new();
        let mut admission = Admission::new(100, 2);
        for ticket in [WATCHED, WATCHED + 1, 1, 2] {
            admission.push(None, Item(a, ticket)).unwrap();
        }
        let has_room = |job: &Item| job.1 < WATCHED;
        assert_eq!(admission.fronts().collect::<Vec<_>>(), [&Item(a, 1), &Item(a, WATCHED)]);
        assert_eq!(admission.pop(has_room), Some(Item(a, 1)));
        assert!(!admission.may_start(&Item(a, 3)), "others wait for the same worker");
        assert_eq!(admission.pop(has_room), Some(Item(a, 2)));
        assert_eq!(admission.pop(has_room), None);
        assert!(admission.may_start(&Item(a, 3)));
        start(&mut admission, a, 2);
        assert!(!admission.may_start(&Item(a, 3)), "the app has its share");
        finish(&mut admission, a, 1);
        assert_eq!(admission.pop(|_| true), Some(Item(a, WATCHED)));
        assert_eq!((admission.queued(), admission.withdraw(WATCHED + 1).is_some()), (1, true));
        assert_eq!((admission.queued(), admission.pop(|_| true)), (0, None));
    }

    #[test]
    fn who_waits_for_the_share_of_its_app_is_not_overtaken() {
        let a = AppId::new();
        let mut admission = Admission::new(100, 1);
        start(&mut admission, a, 1);
        admission.push(None, Item(a, 1)).unwrap();
        assert!(!admission.may_start(&Item(a, WATCHED)));
        admission.push(None, Item(a, WATCHED)).unwrap();
        assert_eq!(admission.fronts().count(), 0);
        finish(&mut admission, a, 1);
        assert_eq!(admission.pop(|_| true), Some(Item(a, 1)));
    }

    #[test]
    fn jobs_that_come_to_wait_for_another_worker_keep_their_order() {
        #[derive(Debug, PartialEq)]
        struct Moving(AppId, u64, Tenant);
        impl Queued for Moving {
            fn app(&self) -> AppId {
                self.0
            }
            fn ticket(&self) -> u64 {
                self.1
            }
            fn tenant(&self) -> Tenant {
                self.2
            }
            fn memory_mb(&self) -> u32 {
                MEMORY_MB
            }
            fn is_ahead(&self) -> bool {
                false
            }
            fn is_nested(&self) -> bool {
                false
            }
        }
        let a = AppId::new();
        let mut admission = Admission::new(100, 4);
        for ticket in 1..=4 {
            admission.push(None, Moving(a, ticket, Tenant::Anyone)).unwrap();
        }
        admission.change(|job| job.2 = if job.1 % 2 == 0 { Tenant::App(a) } else { job.2 });
        let fronts = admission.fronts().map(|job| job.1).collect::<Vec<_>>();
        assert_eq!(fronts, [1, 2]);
        admission.change(|job| job.2 = Tenant::Anyone);
        let popped = std::iter::from_fn(|| admission.pop(|_| true)).map(|job| job.1).collect::<Vec<_>>();
        assert_eq!(popped, [1, 2, 3, 4]);
    }

    #[test]
    fn one_app_cannot_fill_the_queue() {
        let (a, b) = (AppId::new(), AppId::new());
        let mut admission = Admission::new(4, 1);
        assert!(admission.push(None, Item(a, 1)).is_ok());
        assert!(admission.push(None, Item(a, 2)).is_ok());
        assert_eq!(admission.push(None, Item(a, 3)), Err(Item(a, 3)));
        assert!(admission.push(None, Item(b, 4)).is_ok());
    }

    /// An app of this owner's, with so many jobs that wait.
    fn crowd(admission: &mut Admission<Item>, owner: UserId, count: u64) -> AppId {
        let app = AppId::new();
        for ticket in 0..count {
            admission.push(Some(owner), Item(app, ticket)).unwrap();
        }
        app
    }

    #[test]
    fn attack_two_apps_of_one_owner_cannot_fill_the_queue() {
        let (greedy, modest) = (UserId::new(), UserId::new());
        let mut admission = Admission::new(8, 1);
        let first = crowd(&mut admission, greedy, 3);
        let second = crowd(&mut admission, greedy, 1);
        for app in [first, second, AppId::new()] {
            assert!(admission.push(Some(greedy), Item(app, 9)).is_err(), "half is its owner's");
        }
        crowd(&mut admission, modest, 4);
        assert_eq!(admission.queued(), 8);
        assert!(admission.pop(|job| job.0 == first).is_some());
        assert!(admission.push(Some(greedy), Item(second, 9)).is_ok(), "what has left makes room");
    }

    #[test]
    fn attack_a_full_queue_keeps_out_no_owner_of_whom_nothing_waits() {
        let [first, second, late, later] = [(); 4].map(|()| UserId::new());
        let mut admission = Admission::new(4, 1).reserving(1);
        crowd(&mut admission, first, 2);
        crowd(&mut admission, second, 2);
        assert!(admission.push(None, Item(AppId::new(), 9)).is_err(), "the queue is full");
        let app = crowd(&mut admission, late, 1);
        assert!(admission.fronts().any(|job| job.0 == app), "so that it is given a worker");
        assert!(admission.push(Some(late), Item(app, 9)).is_err(), "one of it waits");
        assert!(admission.push(Some(later), Item(AppId::new(), 9)).is_err(), "there are as many as workers");
        assert!(admission.pop(|job| job.0 == app).is_some());
        crowd(&mut admission, later, 1);
    }

    #[test]
    fn attack_two_owners_who_fill_the_queue_leave_a_third_more_than_one_place() {
        let [first, second, third] = [(); 3].map(|()| UserId::new());
        let mut admission = Admission::new(30, 1).reserving(8);
        crowd(&mut admission, first, 15);
        crowd(&mut admission, second, 15);
        let app = crowd(&mut admission, third, 4);
        assert!(admission.push(Some(third), Item(app, 9)).is_err(), "the rest is for who has none");
        crowd(&mut admission, UserId::new(), 1);
        assert!(admission.push(Some(first), Item(AppId::new(), 9)).is_err());
    }

    #[test]
    fn who_waits_is_counted_with_the_apps_owner_whoever_that_is_now() {
        let (before, after) = (UserId::new(), UserId::new());
        let mut admission = Admission::new(8, 1);
        let app = crowd(&mut admission, before, 2);
        admission.push(None, Item(app, 2)).unwrap();
        assert_eq!(admission.owners.waiting(before), 3);
        admission.push(Some(after), Item(app, 3)).unwrap();
        assert_eq!((admission.owners.waiting(before), admission.owners.waiting(after)), (0, 4));
        assert!(admission.withdraw(1).is_some());
        assert_eq!(admission.owners.waiting(after), 3);
        assert_eq!(admission.take_all().len(), 3);
        assert!(admission.owners.0.is_empty(), "nobody is remembered of whom nothing waits");
    }

    #[test]
    fn a_withdrawn_job_never_starts() {
        let a = AppId::new();
        let mut admission = Admission::new(4, 1);
        admission.push(None, Item(a, 1)).unwrap();
        admission.push(None, Item(a, 2)).unwrap();
        assert_eq!(admission.withdraw(1), Some(Item(a, 1)));
        assert_eq!(admission.withdraw(1), None);
        assert_eq!(admission.pop(|_| true), Some(Item(a, 2)));
        assert_eq!(admission.pop(|_| true), None);
        assert_eq!(admission.queued(), 0);
    }

    #[test]
    fn a_makers_job_goes_before_its_apps_load_and_past_its_limits() {
        let a = AppId::new();
        let mut admission = Admission::new(2, 1);
        start(&mut admission, a, 1);
        admission.push(None, Item(a, 1)).unwrap();
        assert_eq!(admission.push(None, Item(a, 2)), Err(Item(a, 2)), "the app has its half of the queue");
        admission.push(None, Item(a, AHEAD)).unwrap();
        admission.push(None, Item(a, AHEAD + 1)).unwrap();
        assert_eq!(admission.ahead(a), 2);
        assert_eq!(admission.pop(|_| true), Some(Item(a, AHEAD)), "although the app runs all it may");
        assert_eq!(admission.pop(|_| true), Some(Item(a, AHEAD + 1)), "in the order of their coming");
        assert_eq!(admission.pop(|_| true), None);
        finish(&mut admission, a, 1);
        assert_eq!(admission.pop(|_| true), Some(Item(a, 1)));
    }

    #[test]
    fn nested_jobs_overtake_their_apps_queue_and_have_a_quarter_beyond_its_share() {
        let (a, b) = (AppId::new(), AppId::new());
        let mut admission = Admission::new(100, 8);
        start(&mut admission, a, 8);
        admission.push(None, Item(a, 1)).unwrap();
        assert!(!admission.may_start(&Item(a, 2)));
        for _ in 0..2 {
            assert!(admission.may_start(&Item(a, NESTED)));
            start(&mut admission, a, 1);
        }
        assert!(!admission.may_start(&Item(a, NESTED)), "ten of eight run");
        assert!(admission.may_start(&Item(b, NESTED)), "that is its own share");
        let mut one = Admission::new(100, 1);
        start(&mut one, a, 1);
        assert!(one.may_start(&Item(a, NESTED)), "at least one");
    }

    #[test]
    fn nested_jobs_that_wait_go_before_their_apps_load_and_after_its_makers() {
        let a = AppId::new();
        let mut admission = Admission::new(100, 1);
        start(&mut admission, a, 1);
        for ticket in [1, NESTED, AHEAD, NESTED + 1] {
            admission.push(None, Item(a, ticket)).unwrap();
        }
        assert_eq!(admission.ahead(a), 1);
        assert_eq!(admission.pop(|_| true), Some(Item(a, AHEAD)));
        assert_eq!(admission.pop(|_| true), Some(Item(a, NESTED)), "although the app runs all its load may");
        start(&mut admission, a, 1);
        assert_eq!(admission.pop(|_| true), None, "nor may it have more than its share and a quarter");
        finish(&mut admission, a, 1);
        assert_eq!(admission.pop(|_| true), Some(Item(a, NESTED + 1)));
        assert_eq!(admission.pop(|_| true), None);
    }

    #[test]
    fn an_app_with_all_the_memory_of_its_share_waits_and_others_do_not() {
        let (a, b) = (AppId::new(), AppId::new());
        let mut admission = Admission::new(100, 8).within(3 * u64::from(MEMORY_MB));
        start(&mut admission, a, 3);
        assert!(!admission.may_start(&Item(a, 1)) && admission.may_start(&Item(b, 2)));
        admission.push(None, Item(a, 1)).unwrap();
        assert_eq!(admission.pop(|_| true), None);
        admission.push(None, Item(b, 2)).unwrap();
        assert_eq!(admission.pop(|_| true), Some(Item(b, 2)));
        assert!(admission.may_start(&Item(a, NESTED)), "a nested one has the largest beyond the share");
        finish(&mut admission, a, 1);
        assert_eq!(admission.pop(|_| true), Some(Item(a, 1)));
    }

    #[test]
    fn nothing_is_remembered_of_an_app_that_left() {
        let a = AppId::new();
        let mut admission = Admission::<Item>::new(4, 1);
        start(&mut admission, a, 1);
        finish(&mut admission, a, u64::MAX);
        assert!(admission.apps.is_empty());
    }
}
