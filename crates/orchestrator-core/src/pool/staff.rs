//! How many workers there are to be, and who has to go so that somebody else gets one.

use std::time::{Duration, Instant};

use super::admission::{Admission, Queued};
use super::connection::Connection;
use super::job::Job;
use super::memory::WorkerMemory;
use super::tenancy::{self, Desk, Tenant};

/// A tenant that has all its workers at work is looked after this often at most.
const BALANCE_EVERY: Duration = Duration::from_millis(100);

/// An execution that has run for longer than anybody waits will hardly end while somebody does.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// Numbers of workers. What is wanted is hired by the supervisor, from its warm spares.
#[derive(Debug)]
pub(super) struct Staff {
    /// Workers to begin with, and most that one tenant has when others want some.
    pub(super) share: usize,
    /// Most workers for load.
    pub(super) max: usize,
    /// Workers beyond these, for makers only.
    kept: usize,
    wanted: usize,
    /// Those that have been hired and have not left.
    hired: usize,
    balanced_at: Option<Instant>,
    /// What is given away of each worker's.
    memory: WorkerMemory,
    /// The worker that is kept for a job which waits for memory.
    saved: Option<Saved>,
}

impl Staff {
    pub(super) const fn new(share: usize, max: usize) -> Self {
        let memory = WorkerMemory::UNBOUNDED;
        Self { share, max, kept: 0, wanted: share, hired: 0, balanced_at: None, memory, saved: None }
    }

    /// With so much memory of each worker to give away.
    pub(super) const fn within(self, memory: WorkerMemory) -> Self {
        Self { memory, ..self }
    }

    /// With one worker more for makers, if no worker can keep a slot for them because each has but one.
    pub(super) const fn keeping(self, slots_per_worker: u16) -> Self {
        Self { kept: (slots_per_worker == 1) as usize, ..self }
    }

    /// Whether load has all the workers that it may have, so that one that is fresh is for a maker.
    pub(super) fn is_full(&self, connections: &[Connection]) -> bool {
        let takes_one = |c: &&Connection| c.tenant.is_some() && !c.is_kept && !c.is_replaced;
        self.kept > 0 && connections.iter().filter(takes_one).count() >= self.max
    }

    /// The worker that is to run a job; none when it has to wait.
    pub(super) fn place(&self, connections: &[Connection], job: &Job) -> Option<usize> {
        let is_kept = !job.is_for_maker && self.is_full(connections);
        let desks = connections.iter().map(|connection| match connection.desk(job.is_for_maker) {
            fresh @ Desk { tenant: None, .. } if is_kept => Desk { room: 0, ..fresh },
            // One that wants more than there is runs alone.
            busy @ Desk { is_idle: false, .. } if !self.memory.has_room(connection.memory_mb, job) => {
                Desk { room: 0, ..busy }
            }
            another if self.is_saved_from(job, connection.id) => Desk { room: 0, ..another },
            desk => desk,
        });
        tenancy::place(desks, job.tenant, self.share)
    }

    /// Keeps a worker for the first job in turn that only lacks memory. Smaller jobs would else take, one by one, what
    /// each leaves that ends, and it would never start. True when one that was kept for another is kept no more.
    pub(super) fn save(&mut self, waiting: &Admission<Job>, connections: &[Connection]) -> bool {
        let bounded = self.memory != WorkerMemory::UNBOUNDED;
        let holds = |saved: Saved| {
            let kept = saved.holds(waiting, connections);
            kept.is_some_and(|(worker, job)| self.may_have_room(worker, job))
        };
        if !bounded || self.saved.is_some_and(holds) {
            return false;
        }
        let let_go = self.saved.take().is_some();
        self.saved = waiting.fronts().find_map(|job| self.saved_for(connections, job));
        let_go
    }

    /// Whether a worker has room for a job once what will soon be over is over.
    fn may_have_room(&self, connection: &Connection, job: &Job) -> bool {
        let is_stuck = |started: Instant| started.elapsed() >= STUCK_AFTER;
        let stuck = connection.executions().filter(|execution| is_stuck(execution.started));
        let stuck_mb = stuck.map(|execution| u64::from(execution.job.memory_mb())).sum();
        self.memory.has_room(stuck_mb, job)
    }

    /// A job waits no more: the worker that was kept for it is for all others again.
    pub(super) fn release(&mut self, ticket: u64) {
        self.saved.take_if(|saved| saved.ticket == ticket);
    }

    fn saved_for(&self, connections: &[Connection], job: &Job) -> Option<Saved> {
        let lacks_memory = |connection: &&Connection| {
            let desk = connection.desk(job.is_for_maker);
            let has_slot = desk.tenant == Some(job.tenant) && desk.room > 0 && !desk.is_idle;
            has_slot
                && !self.memory.has_room(connection.memory_mb, job)
                && self.may_have_room(connection, job)
        };
        let least = connections.iter().filter(lacks_memory).min_by_key(|c| c.memory_mb)?;
        let waits = self.place(connections, job).is_none();
        waits.then_some(Saved { ticket: job.ticket, worker: least.id })
    }

    /// Whether a worker is kept for another job. Makers have memory of their own, and a nested job's caller may be what
    /// has to end first.
    fn is_saved_from(&self, job: &Job, worker: u64) -> bool {
        let is_load = !job.is_for_maker && !job.is_nested;
        is_load && self.saved.is_some_and(|saved| saved.worker == worker && saved.ticket != job.ticket)
    }

    /// Whether the worker that a maker's job is given is one beyond those for load, and leaves after it: when load has all of
    /// its own, or the tenant its share.
    pub(super) fn is_kept(&self, connections: &[Connection], worker: &Connection, job: &Job) -> bool {
        if self.kept == 0 || !job.is_for_maker || worker.tenant.is_some() {
            return false;
        }
        let own = connections.iter().filter(|c| c.tenant == Some(job.tenant) && !c.retiring).count();
        own >= self.share || self.is_full(connections)
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
        // Those that are on their way, or that leave and will be replaced, are for somebody already.
        let staying = connections.iter().filter(|c| !c.retiring || c.is_kept).count();
        let mut coming = self.wanted.saturating_sub(staying);
        let mut hires = false;
        for Want { has, is_for_maker, .. } in wants {
            if coming > 0 {
                coming -= 1;
            } else if self.wanted < self.max + if is_for_maker { self.kept } else { 0 } {
                self.wanted += 1;
                hires = true;
            } else if has == 0 {
                let desks: Vec<Desk> = connections.iter().map(|c| c.desk(false)).collect();
                let Some(at) = tenancy::evict(&desks) else { break };
                hires |= self.dismiss(&mut connections[at]);
            }
        }
        hires
    }

    /// Sends a worker away. One that is idle ends at once, and the next need not wait until its process
    /// is gone, which takes the kernel longer than most requests: true when somebody is to be hired.
    fn dismiss(&mut self, connection: &mut Connection) -> bool {
        connection.retire();
        connection.is_replaced = connection.is_idle();
        connection.is_replaced && self.leave(connection.is_kept)
    }

    /// The tenants whose jobs wait although they have less than their share of workers, or have makers for whom one is
    /// kept; makers and those without any worker first.
    fn wants(&self, waiting: &Admission<Job>, connections: &[Connection]) -> Vec<Want> {
        let mut wants: Vec<Want> = Vec::new();
        for job in waiting.fronts() {
            let (tenant, is_for_maker) = (job.tenant, job.is_for_maker && self.kept > 0);
            let has = connections.iter().filter(|c| c.tenant == Some(tenant) && !c.retiring).count();
            match wants.iter_mut().find(|want| want.tenant == tenant) {
                Some(want) => want.is_for_maker |= is_for_maker,
                None if is_for_maker || has < self.share => wants.push(Want { tenant, has, is_for_maker }),
                None => {}
            }
        }
        wants.sort_by_key(|want| (!want.is_for_maker, want.has));
        wants
    }

    /// Takes a worker that another tenant does not miss, for one that has all of its own at work.
    /// True when somebody is to be hired.
    pub(super) fn balance(&mut self, connections: &mut [Connection], tenant: Tenant, now: Instant) -> bool {
        if self.balanced_at.is_some_and(|at| now < at + BALANCE_EVERY) {
            return false;
        }
        self.balanced_at = Some(now);
        let own = || connections.iter().filter(|c| c.tenant == Some(tenant) && !c.retiring);
        if own().count() >= self.share || own().any(Connection::is_idle) {
            return false;
        }
        let desks: Vec<Desk> = connections.iter().map(|c| c.desk(false)).collect();
        tenancy::surplus(&desks, tenant, now).is_some_and(|at| self.dismiss(&mut connections[at]))
    }
}

/// A worker that starts no more load until a job that lacks memory has its place there.
#[derive(Debug, Clone, Copy)]
struct Saved {
    ticket: u64,
    worker: u64,
}

impl Saved {
    /// The worker and the job, if the job is still next of its app, and the worker still there for it.
    fn holds<'a>(
        self,
        waiting: &'a Admission<Job>,
        connections: &'a [Connection],
    ) -> Option<(&'a Connection, &'a Job)> {
        let is_for = |worker: &Connection, job: &Job| {
            worker.tenant == Some(job.tenant) && !worker.desk(job.is_for_maker).is_leaving
        };
        let worker = connections.iter().find(|connection| connection.id == self.worker);
        let job = waiting.fronts().find(|job| job.ticket == self.ticket);
        worker.zip(job).filter(|(worker, job)| is_for(worker, job))
    }
}

/// Somebody for whom no worker has room.
#[derive(Debug, Clone, Copy)]
struct Want {
    tenant: Tenant,
    /// Workers that it has.
    has: usize,
    /// Whether the kept worker is for it.
    is_for_maker: bool,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Notify;

    use super::*;
    use crate::pool::verify::Isolation;

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
        assert!(Staff::new(1, 2).keeping(1).is_full(&workers));
        assert!(!Staff::new(1, 2).keeping(16).is_full(&workers), "each keeps a slot");
        assert!(!Staff::new(1, 3).keeping(1).is_full(&workers));
        workers[1].is_kept = true;
        assert!(!Staff::new(1, 2).keeping(1).is_full(&workers), "one is a maker's");
    }

    #[test]
    fn nobody_replaces_the_worker_that_was_there_for_a_maker() {
        let mut staff = Staff::new(1, 1).keeping(1);
        staff.wanted = 2;
        assert!(staff.hire() && staff.hire() && !staff.hire());
        assert!(!staff.leave(true) && !staff.hire());
        assert!(staff.leave(false) && staff.hire());
    }

    #[test]
    fn an_idle_worker_that_is_dismissed_is_replaced_before_it_is_gone() {
        let mut staff = Staff::new(1, 1);
        assert!(staff.hire() && !staff.hire());
        let mut idle = Connection::new(1, (1, 2, Isolation::NONE), Arc::new(Notify::new()));
        assert!(staff.dismiss(&mut idle) && idle.retiring && idle.is_replaced);
        assert!(staff.hire() && !staff.hire(), "one for one");
    }

    #[test]
    fn nobody_is_hired_when_nobody_waits() {
        let mut staff = Staff::new(1, 4);
        let mut connections = [Connection::new(1, (1, 2, Isolation::NONE), Arc::new(Notify::new()))];
        assert!(!staff.serve_waiting(&Admission::new(8, 8), &mut connections));
        assert!(!connections[0].retiring);
    }
}
