//! How many workers there are to be, and who gets one.

use std::time::{Duration, Instant};

use super::admission::Admission;
use super::connection::Connection;
use super::job::Job;
use super::memory::{PoolMemory, Taken, WorkerMemory};
use super::mode::Mode;
use super::nested;
use super::recycle::{self, is_parting};
use super::room::Saved;
use super::tenancy::{self, Desk, Tenant};
use super::watch::Circle;

/// A tenant that has all its workers at work is looked after this often at most.
const BALANCE_EVERY: Duration = Duration::from_millis(100);

/// Numbers of workers. What is wanted is hired by the supervisor, from its warm spares.
#[derive(Debug)]
pub(super) struct Staff {
    /// Workers to begin with, and most that one tenant has when others want some.
    pub(super) share: usize,
    /// Most workers for load.
    pub(super) max: usize,
    /// Workers beyond these, for makers only.
    kept: usize,
    /// Whether each worker keeps a slot for its tenant's makers.
    keeps_slots: bool,
    /// Workers beyond its share that a tenant may have for scripts that its scripts call.
    pub(super) nested: usize,
    pub(super) wanted: usize,
    /// Those that have been hired and have not left.
    hired: usize,
    balanced_at: Option<Instant>,
    /// What is given away of each worker's.
    pub(super) memory: WorkerMemory,
    /// What is given away of the memory of all together.
    pub(super) together: PoolMemory,
    /// What is given away of it.
    pub(super) taken: Taken,
    /// The worker that is kept for a job which waits for memory.
    pub(super) saved: Option<Saved>,
    /// Workers whose tenants are watched, by id, and with whom each has its share. Some may be gone.
    apart: Vec<(u64, Circle)>,
}

impl Staff {
    pub(super) const fn new(share: usize, max: usize) -> Self {
        Self {
            share,
            max,
            kept: 0,
            keeps_slots: true,
            nested: 0,
            wanted: share,
            hired: 0,
            balanced_at: None,
            memory: WorkerMemory::UNBOUNDED,
            together: PoolMemory::UNBOUNDED,
            taken: Taken::NONE,
            saved: None,
            apart: Vec::new(),
        }
    }

    /// With so much memory of each worker to give away, and of all together.
    pub(super) fn within(self, memory: WorkerMemory, together: PoolMemory) -> Self {
        Self { memory, together, ..self }
    }

    /// With one worker more for makers, if no worker can keep a slot for them because each has but one, or if those that
    /// keep one may all be others'.
    pub(super) fn keeping(self, slots_per_worker: u16, mode: Mode) -> Self {
        let keeps_slots = slots_per_worker > 1;
        let kept = usize::from(!keeps_slots || mode.parts_tenants());
        Self { kept, keeps_slots, nested: nested::beyond_share(slots_per_worker), ..self }
    }

    /// Whether load has all the workers that it may have, so that one that is fresh is for a maker.
    pub(super) fn is_full(&self, connections: &[Connection]) -> bool {
        let takes_one = |c: &&Connection| c.tenant.is_some() && !c.is_kept && !c.is_replaced;
        self.kept > 0 && connections.iter().filter(takes_one).count() >= self.max
    }

    /// The worker that is to run a job; none when it has to wait.
    pub(super) fn place(&self, connections: &[Connection], job: &Job) -> Option<usize> {
        if !self.has_memory(connections, job) {
            return None;
        }
        let at = self.place_among(connections, job, true)?;
        // Asked only of who would have one: that looks at all workers.
        if connections[at].tenant.is_some() || self.may_begin(connections, job) {
            return Some(at);
        }
        self.place_among(connections, job, false)
    }

    fn place_among(&self, connections: &[Connection], job: &Job, with_fresh: bool) -> Option<usize> {
        let desks = connections.iter().map(|connection| match connection.desk(job.is_for_maker) {
            fresh @ Desk { tenant: None, .. } if !with_fresh => Desk { room: 0, ..fresh },
            // One that wants more than there is runs alone.
            busy @ Desk { is_idle: false, .. } if !self.memory.has_room(connection.memory_mb, job) => {
                Desk { room: 0, ..busy }
            }
            another if self.is_saved_from(job, connection.id) => Desk { room: 0, ..another },
            desk => desk,
        });
        tenancy::place(desks, job.tenant, self.share)
    }

    /// Whether a job may have a fresh worker. One beyond its tenant's share was hired for somebody else.
    fn may_begin(&self, connections: &[Connection], job: &Job) -> bool {
        let has_share = match Circle::of(job).filter(|_| job.is_nested) {
            Some(circle) => self.together(connections, circle) >= self.called_max(),
            None => self.has_share(connections, job),
        };
        if !job.is_for_maker {
            return !has_share && !self.is_full(connections);
        }
        !has_share
            || match Circle::of(job) {
                Some(_) => {
                    !connections.iter().any(|connection| connection.is_kept && !connection.is_replaced)
                }
                None => !self.keeps_slots,
            }
    }

    /// Whether a job's tenant has as many workers as it may, or its circle has.
    fn has_share(&self, connections: &[Connection], job: &Job) -> bool {
        let is_own =
            |connection: &&Connection| connection.tenant == Some(job.tenant) && is_staying(connection);
        connections.iter().filter(is_own).count() >= self.most(job)
            || Circle::of(job).is_some_and(|circle| self.is_full_circle(connections, circle))
    }

    /// Whether those who are watched together have half of all workers, or a share where that is more.
    fn is_full_circle(&self, connections: &[Connection], circle: Circle) -> bool {
        self.together(connections, circle) >= self.together_max()
    }

    pub(super) fn together_max(&self) -> usize {
        self.share.max(self.max / 2)
    }

    /// Workers of those who are watched together. One that is at work has its place until it is gone.
    pub(super) fn together(&self, connections: &[Connection], circle: Circle) -> usize {
        let workers = self.apart.iter().filter(|(_, its)| *its == circle);
        let workers = workers.filter_map(|(id, _)| find(connections, *id));
        workers.filter(|worker| is_staying(worker) || is_parting(worker)).count()
    }

    /// Whether a worker is one of a circle's.
    pub(super) fn is_apart(&self, worker: &Connection, circle: Circle) -> bool {
        self.apart.contains(&(worker.id, circle))
    }

    /// Notes whose a fresh worker is that is about to be given its first job.
    pub(super) fn begin(&mut self, connections: &[Connection], worker: &Connection, job: &Job) {
        if let Some(circle) = Circle::of(job).filter(|_| worker.tenant.is_none()) {
            self.apart.retain(|(id, _)| find(connections, *id).is_some());
            self.apart.push((worker.id, circle));
        }
    }

    /// Whether the worker that a maker's job is given is one beyond those for load, and leaves after it: when load has all of
    /// its own, or the tenant its share.
    pub(super) fn is_kept(&self, connections: &[Connection], worker: &Connection, job: &Job) -> bool {
        if self.kept == 0 || !job.is_for_maker || worker.tenant.is_some() {
            return false;
        }
        self.has_share(connections, job) || self.is_full(connections)
    }

    /// Fills a vacancy, if there is one.
    pub(super) const fn hire(&mut self) -> bool {
        let is_vacant = self.hired < self.wanted;
        self.hired += is_vacant as usize;
        is_vacant
    }

    /// A worker is gone. True when somebody is to take its place; nobody takes that of one which was there for a maker.
    pub(super) const fn leave(&mut self, is_kept: bool) -> bool {
        self.hired = self.hired.saturating_sub(1);
        self.wanted -= is_kept as usize;
        self.hired < self.wanted
    }

    /// Sees to it that every tenant whose jobs wait gets a worker: a new one while there may be
    /// more, else in the place of one that has to go. True when somebody is to be hired.
    pub(super) fn serve_waiting(&mut self, waiting: &Admission<Job>, connections: &mut [Connection]) -> bool {
        let wants = self.wants(waiting, connections);
        let mut coming = self.coming(connections);
        let mut parting = recycle::parting(connections);
        let mut hires = false;
        for Want { tenant, has, is_for_maker, is_nested, over, beyond, .. } in wants {
            if over.is_some() {
                // One of its circle's makes room, or it waits.
                hires |= has == 0 && self.make_room(connections, over, &mut parting) == Some(true);
            } else if coming > 0 {
                coming -= 1;
            } else if self.wanted < self.max + if is_for_maker { self.kept } else { 0 } {
                self.wanted += 1;
                hires = true;
            } else if has == 0 {
                match self.make_room(connections, beyond, &mut parting) {
                    Some(is_vacant) => hires |= is_vacant,
                    None if beyond.is_some() => {}
                    None => break,
                }
            } else if is_nested
                && beyond.is_none()
                && let Some(at) = nested::idle_of_others(connections, tenant)
            {
                hires |= self.dismiss(connections, at);
            }
        }
        hires
    }

    /// Lets the worker go that is beyond those for load, once no maker waits for it: the job may have been withdrawn, or
    /// have found another place. One that is on its way goes when it is there. True when somebody is to be hired.
    pub(super) fn let_go(&mut self, waiting: &Admission<Job>, connections: &mut [Connection]) -> bool {
        let at_work = connections.iter().filter(|c| c.is_kept && !c.is_replaced).count();
        if self.wanted <= self.max + at_work {
            return false;
        }
        let is_needed = |want: &Want| want.is_for_maker && want.over.is_none();
        if self.wants(waiting, connections).iter().any(is_needed) {
            return false;
        }
        if self.hired < self.wanted {
            self.wanted -= 1;
            return false;
        }
        let is_fresh = |connection: &Connection| connection.tenant.is_none() && is_staying(connection);
        let Some(at) = connections.iter().position(is_fresh) else {
            return false;
        };
        connections[at].is_kept = true;
        self.dismiss(connections, at)
    }

    /// The tenants whose jobs wait although they have less than their share of workers, or have makers for whom one is
    /// kept; makers and those without any worker first.
    fn wants(&self, waiting: &Admission<Job>, connections: &[Connection]) -> Vec<Want> {
        let mut wants: Vec<Want> = Vec::new();
        // A worker is no help to who lacks memory of all.
        for job in waiting.fronts().filter(|job| self.has_memory(connections, job)) {
            // Where no worker is kept for makers, it is only their number that bounds them.
            let circle = Circle::of(job).filter(|_| !job.is_for_maker || self.kept > 0);
            let is_called = job.is_nested && circle.is_some();
            let tenant = job.tenant;
            let has = connections.iter().filter(|c| c.tenant == Some(tenant) && !c.retiring).count();
            // Who has a worker that keeps a slot for makers needs no other for them.
            let is_for_maker = job.is_for_maker && self.kept > 0 && (has == 0 || !self.keeps_slots);
            let is_nested = job.is_nested && self.nested > 0;
            match wants.iter_mut().find(|want| want.tenant == tenant) {
                Some(want) => {
                    want.is_for_maker |= is_for_maker;
                    want.is_nested |= is_nested && has < self.most(job);
                    want.is_called |= is_called;
                }
                None if is_for_maker || has < self.most(job) => {
                    let want = Want {
                        tenant,
                        has,
                        is_for_maker,
                        is_nested,
                        is_called,
                        circle,
                        over: None,
                        beyond: None,
                    };
                    wants.push(want);
                }
                None => {}
            }
        }
        wants.sort_by_key(|want| (!want.is_for_maker, want.has));
        self.bound(&mut wants, connections);
        wants
    }

    /// Finds those who would have more than the share of their circle. The kept worker is for one of their makers.
    fn bound(&self, wants: &mut [Want], connections: &[Connection]) {
        let mut may_keep =
            !connections.iter().any(|connection| connection.is_kept && !connection.is_replaced);
        for at in 0..wants.len() {
            let (before, rest) = wants.split_at_mut(at);
            let Some(Want { circle: Some(circle), is_for_maker, is_called, over, beyond, .. }) =
                rest.first_mut()
            else {
                continue;
            };
            let coming = before.iter().filter(|want| want.circle == Some(*circle) && want.over.is_none());
            let together = self.together(connections, *circle) + coming.count();
            if together < self.together_max() || *is_for_maker && std::mem::take(&mut may_keep) {
                continue;
            }
            let place = if *is_called && together < self.called_max() { beyond } else { over };
            *place = Some(*circle);
        }
    }

    /// Takes a worker that another tenant does not miss, for one that has all of its own at work, and with those of its
    /// circle less than a share. True when somebody is to be hired.
    pub(super) fn balance(
        &mut self,
        connections: &mut [Connection],
        (tenant, circle): (Tenant, Option<Circle>),
        now: Instant,
    ) -> bool {
        if self.balanced_at.is_some_and(|at| now < at + BALANCE_EVERY) {
            return false;
        }
        self.balanced_at = Some(now);
        let own = || connections.iter().filter(|c| c.tenant == Some(tenant) && !c.retiring);
        let has_share = own().count() >= self.share
            || circle.is_some_and(|circle| self.is_full_circle(connections, circle));
        if has_share || own().any(Connection::is_idle) {
            return false;
        }
        let desks: Vec<Desk> = connections.iter().map(|c| c.desk(false)).collect();
        tenancy::surplus(&desks, tenant, now).is_some_and(|at| self.dismiss(connections, at))
    }
}

/// The worker of this id: whoever comes has the highest and stands last.
fn find(connections: &[Connection], id: u64) -> Option<&Connection> {
    connections.binary_search_by_key(&id, |connection| connection.id).ok().map(|at| &connections[at])
}

/// Whether a worker still gets work.
pub(super) const fn is_staying(connection: &Connection) -> bool {
    !connection.retiring && connection.violation.is_none()
}

/// Somebody for whom no worker has room.
#[derive(Debug, Clone, Copy)]
struct Want {
    tenant: Tenant,
    /// Workers that it has.
    has: usize,
    /// Whether the kept worker is for it.
    is_for_maker: bool,
    /// Whether somebody waits for it who has a worker of its own tenant's, so that one of others' makes room.
    is_nested: bool,
    /// Whether somebody who is watched waits for it.
    is_called: bool,
    /// With whom it has its share, if it is watched.
    circle: Option<Circle>,
    /// The same, when these have all that they may have.
    over: Option<Circle>,
    /// The same, when they have their share, and only who is called may have more: a worker that comes anyway, but none in
    /// the place of somebody else's.
    beyond: Option<Circle>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shared::id::UserId;
    use shared::wire::codec::Header;
    use shared::wire::frame::FromWorker;
    use tokio::sync::Notify;

    use super::*;
    use crate::pool::connection::Start;
    use crate::pool::execution::Execution;
    use crate::pool::sample;
    use crate::pool::verify::Isolation;

    /// A request to an app of this owner's.
    fn run(owner: UserId) -> Job {
        sample::run(Mode::Pinned, owner)
    }

    /// The same of a script that is watched.
    fn watched(owner: UserId) -> Job {
        let job = run(owner);
        Job { tenant: Tenant::Script(job.script().unwrap()), ..job }
    }

    fn compilation(owner: UserId) -> Job {
        sample::compilation(Mode::Pinned, owner)
    }

    /// Fresh ones, each with a slot for load and one for makers.
    fn workers(count: u64) -> Vec<Connection> {
        let worker = |id| Connection::new(id, (1, 2, Isolation::NONE), Arc::new(Notify::new()));
        (1..=count).map(worker).collect()
    }

    /// Workers that each serve another owner, and have nothing to do.
    fn idle(count: u64) -> Vec<Connection> {
        let mut workers = workers(count);
        workers.iter_mut().for_each(|worker| worker.tenant = Some(Tenant::Owner(UserId::new())));
        workers
    }

    /// Workers that each run something of another owner's.
    fn busy(staff: &mut Staff, count: u64) -> Vec<Connection> {
        let mut workers = workers(count);
        for _ in 0..count {
            assert!(start(staff, &mut workers, run(UserId::new())));
        }
        workers
    }

    /// Starts a job as the pool does; false when there is no worker for it.
    fn start(staff: &mut Staff, workers: &mut [Connection], job: Job) -> bool {
        let Some(at) = staff.place(workers, &job) else {
            return false;
        };
        let is_kept = staff.is_kept(workers, &workers[at], &job);
        staff.begin(workers, &workers[at], &job);
        workers[at].is_kept = is_kept;
        workers[at].retiring |= is_kept;
        workers[at].start(job, Start { now: Instant::now(), at_us: 0, seed: [0; 16] });
        true
    }

    /// What a worker began first is over.
    fn end(worker: &mut Connection) -> Execution {
        let header = Header { body_bytes: 0, kind: FromWorker::Done as u8, slot: 0, generation: 1 };
        worker.end(&header, Instant::now()).unwrap()
    }

    /// What a worker runs has run for longer than anybody waits.
    fn linger(worker: &mut Connection) {
        let Execution { job, .. } = end(worker);
        worker.start(job, Start { now: Instant::now() - Duration::from_secs(6), at_us: 0, seed: [0; 16] });
    }

    fn waiting(jobs: impl IntoIterator<Item = Job>) -> Admission<Job> {
        let mut admission = Admission::new(64, 8);
        for (ticket, job) in (1..).zip(jobs) {
            admission.push(job.owner(), Job { ticket, ..job }).unwrap();
        }
        admission
    }

    fn leaving(workers: &[Connection]) -> Vec<u64> {
        workers.iter().filter(|worker| worker.retiring).map(|worker| worker.id).collect()
    }

    /// With all workers there that load may have.
    fn full(share: usize, max: usize, mode: Mode) -> Staff {
        Staff { wanted: max, hired: max, ..Staff::new(share, max).keeping(2, mode) }
    }

    #[test]
    fn attack_no_owner_takes_fresh_workers_beyond_a_share() {
        let (greedy, modest) = (UserId::new(), UserId::new());
        let (mut staff, mut workers) = (Staff::new(2, 8), workers(4));
        let started = [(); 3].map(|()| start(&mut staff, &mut workers, run(greedy)));
        assert_eq!(started, [true, true, false], "the others were hired for somebody else");
        assert!(start(&mut staff, &mut workers, run(modest)));
    }

    #[test]
    fn attack_watched_scripts_of_one_owner_have_one_share_of_fresh_workers() {
        let (greedy, modest) = (UserId::new(), UserId::new());
        let (mut staff, mut workers) = (Staff::new(2, 5).keeping(2, Mode::Pinned), workers(8));
        let started = [(); 4].map(|()| start(&mut staff, &mut workers, watched(greedy)));
        assert_eq!(started, [true, true, false, false]);
        assert!(start(&mut staff, &mut workers, run(greedy)), "what is not watched has its own share");
        assert!(start(&mut staff, &mut workers, watched(modest)));
        let tests = [(); 2].map(|()| {
            let test = Job { is_for_maker: true, ..watched(greedy) };
            start(&mut staff, &mut workers, test)
        });
        assert_eq!(tests, [true, false], "one that is kept, and leaves after it");
        assert_eq!(leaving(&workers).len(), 1);
    }

    #[test]
    fn where_there_are_many_workers_half_of_them_are_for_watched_scripts_of_one_owner() {
        let (mut staff, mut workers, owner) = (Staff::new(2, 8), workers(8), UserId::new());
        let started = [(); 6].map(|()| start(&mut staff, &mut workers, watched(owner)));
        assert_eq!(started, [true, true, true, true, false, false]);
    }

    #[test]
    fn whom_a_watched_script_calls_waits_for_no_worker_of_the_same_circle() {
        let (mut staff, mut workers, owner) = (full(1, 3, Mode::Pinned), workers(2), UserId::new());
        assert!(start(&mut staff, &mut workers, watched(owner)));
        assert!(!start(&mut staff, &mut workers, watched(owner)), "the circle has its share");
        let called = || Job { is_nested: true, ..watched(owner) };
        staff.serve_waiting(&waiting([called()]), &mut workers[..1]);
        assert!(leaving(&workers).is_empty(), "its caller's worker stays");
        assert!(start(&mut staff, &mut workers, called()));
    }

    #[test]
    fn attack_watched_scripts_that_call_each_other_leave_others_their_workers() {
        let owner = UserId::new();
        let called = || Job { is_nested: true, ..watched(owner) };
        let (mut staff, mut workers) = (Staff::new(2, 8), workers(8));
        let started = (0..8).filter(|_| start(&mut staff, &mut workers, called())).count();
        assert_eq!(started, 7, "the last worker is for others");

        let (mut staff, mut workers) = (full(2, 5, Mode::Pinned), idle(5));
        let admission = waiting([(); 5].map(|()| called()));
        for _ in 0..5 {
            staff.serve_waiting(&admission, &mut workers);
        }
        assert_eq!(leaving(&workers).len(), 2, "no more than a share is taken from others");
    }

    #[test]
    fn attack_watched_scripts_of_one_owner_do_not_send_away_all_idle_workers() {
        let (mut staff, mut workers, owner) = (full(2, 5, Mode::Pinned), idle(5), UserId::new());
        let admission = waiting([(); 5].map(|()| watched(owner)));
        for _ in 0..3 {
            staff.serve_waiting(&admission, &mut workers);
            assert_eq!(leaving(&workers).len(), 2, "as many as its share");
        }
        let mut staff = Staff { wanted: 0, ..Staff::new(2, 5) };
        assert!(staff.serve_waiting(&admission, &mut []));
        assert_eq!(staff.wanted, 2, "nor are more hired");
    }

    #[test]
    fn watched_scripts_of_one_owner_make_room_for_each_other() {
        let (mut staff, owner) = (full(1, 3, Mode::Pinned), UserId::new());
        let mut workers = idle(2);
        workers.push(Connection::new(3, (1, 2, Isolation::NONE), Arc::new(Notify::new())));
        let first = watched(owner);
        staff.begin(&workers, &workers[2], &first);
        workers[2].tenant = Some(first.tenant);
        staff.serve_waiting(&waiting([watched(owner)]), &mut workers);
        assert_eq!(leaving(&workers), [3], "although others have been idle for longer");
    }

    #[test]
    fn watched_scripts_of_one_owner_have_no_surplus_of_others_beyond_a_share() {
        let (owner, later) = (UserId::new(), Instant::now() + Duration::from_secs(60));
        let other = Some(Tenant::Owner(UserId::new()));
        for (share, is_taken) in [(2, false), (3, true)] {
            let (mut staff, mut workers) = (full(share, 4, Mode::Pinned), workers(4));
            let (first, second) = (watched(owner), watched(owner));
            let whose = (second.tenant, Circle::of(&second));
            assert!(start(&mut staff, &mut workers, first) && start(&mut staff, &mut workers, second));
            workers[2..].iter_mut().for_each(|worker| worker.tenant = other);
            staff.balance(&mut workers, whose, later);
            assert_eq!(!leaving(&workers).is_empty(), is_taken, "with a share of {share}");
        }
    }

    #[test]
    fn a_maker_without_a_worker_gets_the_kept_one_although_each_has_a_slot_for_its_own() {
        let mut staff = full(1, 2, Mode::Pinned);
        let mut workers = busy(&mut staff, 2);
        let (maker, stranger) = (UserId::new(), UserId::new());
        let admission = waiting([compilation(maker), run(stranger)]);
        assert!(staff.serve_waiting(&admission, &mut workers), "one is hired");
        assert!(!staff.serve_waiting(&admission, &mut workers), "and no other");
        assert_eq!((staff.wanted, leaving(&workers).len()), (3, 0));
        workers.push(Connection::new(3, (1, 2, Isolation::NONE), Arc::new(Notify::new())));
        assert!(!start(&mut staff, &mut workers, run(stranger)), "load has all of its own");
        assert!(start(&mut staff, &mut workers, compilation(maker)));
        assert!(workers[2].is_kept && workers[2].retiring, "it leaves after it");
    }

    #[test]
    fn attack_makers_whose_owner_has_a_worker_take_no_kept_one() {
        let mut staff = full(1, 2, Mode::Pinned);
        let (mut workers, maker) = (workers(2), UserId::new());
        let [own, others] = [maker, UserId::new()].map(run);
        assert!(start(&mut staff, &mut workers, own) && start(&mut staff, &mut workers, others));
        assert!(start(&mut staff, &mut workers, compilation(maker)), "in the slot that is kept");
        let admission = waiting([(); 4].map(|()| compilation(maker)));
        assert!(!staff.serve_waiting(&admission, &mut workers));
        assert_eq!(staff.wanted, 2);
    }

    #[test]
    fn as_many_are_hired_as_are_wanted_and_whoever_leaves_is_replaced() {
        let mut staff = Staff::new(2, 4);
        assert!(staff.hire() && staff.hire() && !staff.hire());
        assert!(staff.leave(false) && staff.hire() && !staff.hire());
    }

    #[test]
    fn a_fresh_worker_is_for_a_maker_once_load_has_all_of_its_own() {
        let worker = |id, tenant| {
            let mut worker = Connection::new(id, (1, 1, Isolation::NONE), Arc::new(Notify::new()));
            worker.tenant = tenant;
            worker
        };
        let mut workers = [worker(1, Some(Tenant::Anyone)), worker(2, Some(Tenant::Anyone)), worker(3, None)];
        assert!(Staff::new(1, 2).keeping(1, Mode::Shared).is_full(&workers));
        assert!(Staff::new(1, 2).keeping(16, Mode::Pinned).is_full(&workers));
        assert!(!Staff::new(1, 2).keeping(16, Mode::Shared).is_full(&workers), "each keeps a slot");
        assert!(!Staff::new(1, 3).keeping(1, Mode::Shared).is_full(&workers));
        workers[1].is_kept = true;
        assert!(!Staff::new(1, 2).keeping(1, Mode::Shared).is_full(&workers), "one is a maker's");
    }

    #[test]
    fn nobody_replaces_the_worker_that_was_there_for_a_maker() {
        let mut staff = Staff::new(1, 1).keeping(1, Mode::Strict);
        staff.wanted = 2;
        assert!(staff.hire() && staff.hire() && !staff.hire());
        assert!(!staff.leave(true) && !staff.hire());
        assert!(staff.leave(false) && staff.hire());
    }

    #[test]
    fn an_idle_worker_that_is_dismissed_is_replaced_before_it_is_gone() {
        let mut staff = Staff::new(1, 1);
        assert!(staff.hire() && !staff.hire());
        let mut idle = [Connection::new(1, (1, 2, Isolation::NONE), Arc::new(Notify::new()))];
        assert!(staff.dismiss(&mut idle, 0) && idle[0].retiring && idle[0].is_replaced);
        assert!(staff.hire() && !staff.hire(), "one for one");
    }

    #[test]
    fn attack_those_who_stay_when_told_to_leave_do_not_add_up() {
        let mut staff = full(2, 3, Mode::Pinned);
        let mut workers = idle(5);
        let replaced = (0..5).filter(|at| staff.dismiss(&mut workers, *at)).count();
        assert_eq!((replaced, leaving(&workers).len()), (3, 5), "no more than there may be workers");
    }

    /// Three workers, all there may be, two of which are at work for the same owner.
    fn with_two_of_one() -> (Staff, Vec<Connection>, UserId) {
        let (mut staff, mut workers, owner) = (full(2, 3, Mode::Pinned), workers(3), UserId::new());
        for owner in [owner, owner, UserId::new()] {
            assert!(start(&mut staff, &mut workers, run(owner)));
        }
        (staff, workers, owner)
    }

    #[test]
    fn attack_nobody_waits_for_a_worker_that_is_at_work_while_another_has_nothing_to_do() {
        let (mut staff, mut workers, _) = with_two_of_one();
        let admission = waiting([run(UserId::new())]);
        for _ in 0..2 {
            assert!(!staff.serve_waiting(&admission, &mut workers));
            assert_eq!(leaving(&workers), [1], "one of two, and no second one");
        }
        end(&mut workers[2]);
        assert!(staff.serve_waiting(&admission, &mut workers));
        assert!(!staff.serve_waiting(&admission, &mut workers));
        assert_eq!(leaving(&workers), [1, 3], "the one that is idle now");
        assert!(staff.hire() && !staff.hire());
        end(&mut workers[0]);
        assert!(staff.replace(&mut workers, 0) && staff.hire() && !staff.hire(), "as many as before");
    }

    #[test]
    fn each_that_leaves_after_its_work_is_for_one_of_those_who_wait() {
        let (mut staff, mut workers) = (full(2, 4, Mode::Pinned), workers(4));
        let greedy = [UserId::new(), UserId::new()];
        for owner in [greedy[0], greedy[0], greedy[1], greedy[1]] {
            assert!(start(&mut staff, &mut workers, run(owner)));
        }
        for (waiting_count, expected) in [(1, 1), (2, 2), (3, 2)] {
            let admission = waiting((0..waiting_count).map(|_| run(UserId::new())));
            for _ in 0..2 {
                staff.serve_waiting(&admission, &mut workers);
                assert_eq!(leaving(&workers).len(), expected, "{waiting_count} wait");
            }
        }
    }

    #[test]
    fn attack_nobody_waits_for_a_worker_that_leaves_after_minutes_while_another_may_be_gone_sooner() {
        let (mut staff, mut workers) = (full(2, 5, Mode::Pinned), workers(5));
        let [lingering, swift] = [UserId::new(), UserId::new()];
        for owner in [lingering, lingering, swift, swift, UserId::new()] {
            assert!(start(&mut staff, &mut workers, run(owner)));
        }
        let admission = waiting([run(UserId::new())]);
        staff.serve_waiting(&admission, &mut workers);
        assert_eq!(leaving(&workers), [1]);
        linger(&mut workers[0]);
        for _ in 0..2 {
            staff.serve_waiting(&admission, &mut workers);
            assert_eq!(leaving(&workers), [1, 3], "another, and no third one");
        }
    }

    #[test]
    fn of_workers_at_work_one_leaves_that_may_be_gone_soon_and_no_second_one_where_there_is_none() {
        for (lingering, expected) in [(0..0, 1), (0..1, 2), (0..2, 3), (0..4, 1)] {
            let (mut staff, mut workers) = (full(2, 4, Mode::Pinned), workers(4));
            let greedy = [UserId::new(), UserId::new()];
            for owner in [greedy[0], greedy[0], greedy[1], greedy[1]] {
                assert!(start(&mut staff, &mut workers, run(owner)));
            }
            workers[lingering.clone()].iter_mut().for_each(linger);
            let admission = waiting([run(UserId::new())]);
            for _ in 0..2 {
                staff.serve_waiting(&admission, &mut workers);
                assert_eq!(leaving(&workers), [expected], "{lingering:?} run something long");
            }
        }
    }

    #[test]
    fn who_waits_for_a_worker_of_its_own_circle_does_not_wait_for_others() {
        let (mut staff, mut workers, owner) = (full(2, 5, Mode::Pinned), workers(5), UserId::new());
        let (greedy, first) = (UserId::new(), watched(owner));
        let second = Job { tenant: first.tenant, ..watched(owner) };
        for job in [run(greedy), run(greedy), first, second, run(UserId::new())] {
            assert!(start(&mut staff, &mut workers, job));
        }
        staff.serve_waiting(&waiting([run(UserId::new())]), &mut workers);
        assert_eq!(leaving(&workers), [1]);
        let admission = waiting([watched(owner)]);
        for _ in 0..2 {
            staff.serve_waiting(&admission, &mut workers);
            assert_eq!(leaving(&workers), [1, 3], "the place of the first is none of the circle's");
        }
    }

    #[test]
    fn who_is_called_does_not_wait_until_its_caller_leaves() {
        let (mut staff, mut workers, owner) = with_two_of_one();
        staff.serve_waiting(&waiting([run(UserId::new())]), &mut workers);
        assert_eq!(leaving(&workers), [1]);
        let called = Job { is_nested: true, ..run(owner) };
        assert!(!staff.may_send_for(&Admission::new(8, 8), &workers, &called));
        end(&mut workers[2]);
        assert!(staff.may_send_for(&Admission::new(8, 8), &workers, &called), "that one has nothing to do");
    }

    #[test]
    fn attack_watched_scripts_have_no_more_than_a_share_with_those_that_leave() {
        let (mut staff, mut workers, owner) = (full(2, 5, Mode::Pinned), workers(5), UserId::new());
        let first = watched(owner);
        let second = Job { tenant: first.tenant, ..watched(owner) };
        assert!(start(&mut staff, &mut workers, first) && start(&mut staff, &mut workers, second));
        workers[2..].iter_mut().for_each(|worker| worker.tenant = Some(Tenant::Owner(UserId::new())));
        let admission = waiting([watched(owner)]);
        for _ in 0..2 {
            staff.serve_waiting(&admission, &mut workers);
            assert_eq!(leaving(&workers), [1], "of its own circle, although others are idle");
        }
        workers.push(Connection::new(6, (1, 2, Isolation::NONE), Arc::new(Notify::new())));
        assert!(!start(&mut staff, &mut workers, watched(owner)), "a fresh one is for somebody else");
    }

    #[test]
    fn whom_a_watched_script_calls_does_not_wait_while_one_that_leaves_has_the_last_place() {
        let (mut staff, mut workers, owner) = (full(2, 5, Mode::Pinned), workers(5), UserId::new());
        let called = || Job { is_nested: true, ..watched(owner) };
        for _ in 0..4 {
            assert!(start(&mut staff, &mut workers, called()));
        }
        workers[4].tenant = Some(Tenant::Owner(UserId::new()));
        workers[0].retire();
        let admission = Admission::new(8, 8);
        assert!(!staff.may_send_for(&admission, &workers, &called()));
        end(&mut workers[0]);
        assert!(staff.may_send_for(&admission, &workers, &called()), "it has nothing left to do");
    }

    #[test]
    fn nobody_is_hired_when_nobody_waits() {
        let mut staff = Staff::new(1, 4);
        let mut connections = [Connection::new(1, (1, 2, Isolation::NONE), Arc::new(Notify::new()))];
        assert!(!staff.serve_waiting(&Admission::new(8, 8), &mut connections));
        assert!(!connections[0].retiring);
    }
}
