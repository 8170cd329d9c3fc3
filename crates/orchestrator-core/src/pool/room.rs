//! Whether there is memory for a job: in its worker, and in all of them together; and the worker that is kept for a job
//! which lacks it there.

use std::time::{Duration, Instant};

use super::admission::{Admission, Queued};
use super::connection::Connection;
use super::job::Job;
use super::memory::WorkerMemory;
use super::staff::Staff;

/// An execution that has run for longer than anybody waits will hardly end while somebody does.
const STUCK_AFTER: Duration = Duration::from_secs(5);

impl Staff {
    /// Whether a job may start at all: beside what runs in all workers.
    pub(super) fn has_memory(&self, connections: &[Connection], job: &Job) -> bool {
        let is_own = |connection: &Connection| connection.tenant == Some(job.tenant);
        let is_first = || !connections.iter().any(|worker| is_own(worker) && worker.memory_mb > 0);
        // All workers are looked at only where that decides.
        self.together.has_room(self.taken, job, false)
            || self.together.has_room(self.taken, job, true) && is_first()
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
    pub(super) fn is_saved_from(&self, job: &Job, worker: u64) -> bool {
        let is_load = !job.is_for_maker && !job.is_nested;
        is_load && self.saved.is_some_and(|saved| saved.worker == worker && saved.ticket != job.ticket)
    }
}

/// A worker that starts no more load until a job that lacks memory has its place there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Saved {
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
