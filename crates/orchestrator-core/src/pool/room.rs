//! Whether there is memory for a job: in its worker, and in all of them together; and the worker that is kept for a job
//! which lacks it there.

use std::time::{Duration, Instant};

use super::admission::{Admission, Queued};
use super::connection::Connection;
use super::execution::Execution;
use super::job::Job;
use super::memory::{Taken, WorkerMemory};
use super::staff::Staff;

/// An execution that has run for longer than anybody waits will hardly end while somebody does.
const STUCK_AFTER: Duration = Duration::from_secs(5);

fn has_run_long(started: Instant) -> bool {
    started.elapsed() >= STUCK_AFTER
}

/// Whether something in a worker will hardly end while anybody waits for it.
pub(super) fn is_stuck(worker: &Connection) -> bool {
    worker.executions().any(|execution| has_run_long(execution.started))
}

impl Staff {
    /// Whether a job may start at all: beside what runs in all workers.
    pub(super) fn has_memory(&self, connections: &[Connection], job: &Job) -> bool {
        let is_own = |connection: &Connection| connection.tenant == Some(job.tenant);
        let is_first = || !connections.iter().any(|worker| is_own(worker) && worker.memory_mb > 0);
        self.has_room_beside(self.taken, job, is_first)
    }

    /// The same beside what all workers would have then.
    fn has_room_beside(&self, taken: Taken, job: &Job, is_first: impl FnOnce() -> bool) -> bool {
        // All workers are looked at only where that decides.
        self.together.has_room(taken, job, false) || self.together.has_room(taken, job, true) && is_first()
    }

    /// Keeps a worker for the first job in turn that only lacks memory. Smaller jobs would else take, one by one, what
    /// each leaves that ends, and it would never start. True when one that was kept for another is kept no more.
    pub(super) fn save(&mut self, waiting: &Admission<Job>, connections: &[Connection]) -> bool {
        let bounded = self.memory != WorkerMemory::UNBOUNDED;
        let holds = |saved: Saved| {
            let kept = saved.holds(waiting, connections);
            kept.is_some_and(|(worker, job)| self.may_have_room(connections, worker, job))
        };
        if !bounded || self.saved.is_some_and(holds) {
            return false;
        }
        let let_go = self.saved.take().is_some();
        self.saved = waiting.fronts().find_map(|job| self.saved_for(connections, job));
        let_go
    }

    /// Whether there is room for a job once what will soon be over in a worker is over: in that worker, and beside all that
    /// the others have. What these have may keep it out for long, and the worker would stand idle.
    fn may_have_room(&self, connections: &[Connection], connection: &Connection, job: &Job) -> bool {
        let (mut stuck_mb, mut taken) = (0, self.taken);
        for Execution { job, started, .. } in connection.executions() {
            if has_run_long(*started) {
                stuck_mb += u64::from(job.memory_mb());
            } else {
                taken.remove(job);
            }
        }
        let is_others = |worker: &Connection| worker.tenant != Some(job.tenant) || worker.id == connection.id;
        let is_first =
            || stuck_mb == 0 && connections.iter().all(|worker| is_others(worker) || worker.memory_mb == 0);
        self.memory.has_room(stuck_mb, job) && self.has_room_beside(taken, job, is_first)
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
                && self.may_have_room(connections, connection, job)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shared::id::UserId;
    use tokio::sync::Notify;

    use super::*;
    use crate::pool::connection::Start;
    use crate::pool::job::{Submitted, Task};
    use crate::pool::memory::PoolMemory;
    use crate::pool::mode::Mode;
    use crate::pool::recruit::PoolConfig;
    use crate::pool::sample;
    use crate::pool::verify::Isolation;

    fn job(owner: UserId, memory_mb: u32) -> Job {
        let mut job = sample::run(Mode::Pinned, owner);
        if let Task::Run(invocation) = &mut job.task {
            Arc::make_mut(&mut invocation.target).limits.memory_mb = memory_mb;
        }
        job
    }

    /// A worker, with three slots for load, that runs executions with such limits of this owner's.
    fn running(staff: &mut Staff, id: u64, owner: UserId, limits_mb: &[u32]) -> Connection {
        let mut worker = Connection::new(id, (1, 4, Isolation::NONE), Arc::new(Notify::new()));
        for memory_mb in limits_mb {
            let job = job(owner, *memory_mb);
            staff.taken.add(&job);
            worker.start(job, Start { now: Instant::now(), at_us: 0, seed: [0; 16] });
        }
        worker
    }

    /// Load has 128 MiB in each worker, and as much in all of them, or twice as much with the default limit.
    fn config() -> PoolConfig {
        PoolConfig {
            worker_memory_bytes: Some(400 << 20),
            tenant_workers: 3,
            ..PoolConfig::new("/".into(), 2, 4).isolated(Mode::Pinned)
        }
    }

    #[test]
    fn no_worker_is_kept_for_a_job_that_others_leave_no_memory() {
        let config = config();
        let (memory, together) = (WorkerMemory::of(&config), PoolMemory::of(&config));
        let mut staff = Staff::new(2, 3).within(memory, together);
        let owner = UserId::new();
        let mut workers = vec![
            running(&mut staff, 1, owner, &[32, 32]),
            running(&mut staff, 2, owner, &[32, 32, 32]),
            running(&mut staff, 3, UserId::new(), &[60]),
        ];
        let mut waiting = Admission::new(8, 8);
        waiting.push(Some(owner), Job { ticket: 1, ..job(owner, 100) }).unwrap();
        assert!(!staff.save(&waiting, &workers));
        assert!(staff.saved.is_none(), "it would not start there if nothing else ran there");
        let small = job(owner, 32);
        assert_eq!(staff.place(&workers, &small), Some(0));

        let gone = workers.split_off(1);
        let executions = gone.into_iter().flat_map(|mut worker| worker.take_executions());
        executions.for_each(|execution| staff.taken.remove(&execution.job));
        assert!(!staff.save(&waiting, &workers));
        assert!(staff.is_saved_from(&small, 1), "now it lacks what small ones have there");
        assert_eq!(staff.place(&workers, &small), None);

        workers.push(running(&mut staff, 2, owner, &[32, 32, 32]));
        workers.push(running(&mut staff, 3, UserId::new(), &[60]));
        assert!(staff.save(&waiting, &workers), "it is kept no more");
        assert_eq!(staff.place(&workers, &small), Some(0));
    }

    #[test]
    fn who_found_a_worker_kept_for_another_starts_when_its_memory_is_taken_elsewhere() {
        for is_there in [true, false] {
            let shared = sample::shared(&config());
            let attach = || shared.attach((1, 4, Isolation::NONE), true, None).unwrap();
            let owner = UserId::new();
            attach();
            attach();
            for (at, memory_mb) in [(0, 32), (0, 32), (1, 8), (1, 8), (1, 8)] {
                shared.lock().start(at, job(owner, memory_mb));
            }
            for memory_mb in [100, 32] {
                assert_eq!(shared.submit(job(owner, memory_mb)).unwrap().0, Submitted::Queued);
            }
            // With the other, what all have is too much for the large one, wherever it would run.
            if is_there {
                attach();
                assert_eq!(shared.submit(job(UserId::new(), 32)).unwrap().0, Submitted::Started);
            } else {
                assert_eq!(shared.submit(job(UserId::new(), 32)).unwrap().0, Submitted::Queued);
                attach();
            }
            let state = shared.lock();
            assert_eq!((state.running, state.admission.queued()), (7, 1), "only the large one waits");
        }
    }
}
