//! How much of a worker's memory is given away. Executions start by what their limits let them have, so that those
//! who keep within their limits do not make the kernel end their worker.

use shared::limits::{COMPILE_MEMORY_MB, MEMORY_MB_DEFAULT, MEMORY_MB_MAX};

use super::admission::Queued;
use super::job::Job;
use super::recruit::PoolConfig;

/// What the executions in one worker may have together, in MiB of their `memory_mb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WorkerMemory {
    /// Those of load.
    load_mb: u64,
    /// With the runs and compilations of makers.
    all_mb: u64,
}

impl WorkerMemory {
    pub(super) const UNBOUNDED: Self = Self { load_mb: u64::MAX, all_mb: u64::MAX };

    pub(super) fn of(config: &PoolConfig) -> Self {
        let bytes = config.worker_memory_bytes;
        bytes.map_or(Self::UNBOUNDED, |bytes| Self::new(bytes, config.slots_per_worker))
    }

    /// Of a worker that may take so many bytes. Load leaves room for a test run of the largest script, but never has
    /// less than all slots need with the default limit, of which guests seldom use much.
    fn new(bytes: u64, slots: u16) -> Self {
        // The rest is for the worker itself, and for requests and answers.
        let given_mb = (bytes / 10 * 9) >> 20;
        let defaults_mb = u64::from(slots) * u64::from(MEMORY_MB_DEFAULT);
        let load_mb = given_mb.saturating_sub(MEMORY_MB_MAX.into()).max(defaults_mb);
        Self { load_mb, all_mb: given_mb.max(load_mb + u64::from(COMPILE_MEMORY_MB)) }
    }

    /// Whether a job may start where executions have so much already.
    pub(super) fn has_room(self, taken_mb: u64, job: &Job) -> bool {
        let most = if job.is_for_maker { self.all_mb } else { self.load_mb };
        taken_mb.saturating_add(job.memory_mb().into()) <= most
    }

    /// The share of an app that may have so many executions at a time, in MiB: as much as as many slots have, and
    /// enough for one execution with the largest limit.
    pub(super) fn share(self, slots: u16, executions: usize) -> u64 {
        let share = self.load_mb.saturating_mul(executions as u64) / u64::from(slots.max(1));
        share.max(MEMORY_MB_MAX.into())
    }
}

/// What the executions in all workers may have together, in MiB of their `memory_mb`: each worker may take half of the
/// memory, but all of them three quarters of it, as their control group does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PoolMemory {
    /// Those of load.
    load_mb: u64,
    /// The same of executions with no more than the default limit, of which guests seldom use much, where that is more: as
    /// much as fills all slots of the workers that are always there.
    defaults_mb: u64,
}

impl PoolMemory {
    pub(super) const UNBOUNDED: Self = Self { load_mb: u64::MAX, defaults_mb: u64::MAX };

    pub(super) fn of(config: &PoolConfig) -> Self {
        let slots = config.workers as u64 * u64::from(config.slots_per_worker);
        let worker = WorkerMemory::of(config);
        config.worker_memory_bytes.map_or(Self::UNBOUNDED, |bytes| Self::new(bytes, worker, slots))
    }

    /// Of workers each of which may take so many bytes. Load leaves room twice for the largest script: once for tenants of
    /// whom nothing runs, and once for makers; but it never has less than in one worker.
    fn new(worker_bytes: u64, worker: WorkerMemory, slots: u64) -> Self {
        let given_mb = (worker_bytes / 2 * 3 / 10 * 9) >> 20;
        let load_mb = given_mb.saturating_sub(2 * u64::from(MEMORY_MB_MAX)).max(worker.load_mb);
        Self { load_mb, defaults_mb: slots * u64::from(MEMORY_MB_DEFAULT) }
    }

    /// Whether a job may start where executions have so much already; the first one of its tenant as well where load has
    /// all. One that is nested is like a first one: its caller keeps what it has until it is answered.
    pub(super) fn has_room(self, taken: Taken, job: &Job, is_first: bool) -> bool {
        let (job_mb, room_mb) = (u64::from(job.memory_mb()), u64::from(MEMORY_MB_MAX));
        // One that wants more than there is runs alone.
        if taken.all_mb == 0 || job.is_for_maker && taken.makers_mb + job_mb <= room_mb {
            return true;
        }
        let goes_beyond = is_first || job.is_nested;
        let (small_mb, load_mb) = if goes_beyond || job.is_for_maker || job.is_small() {
            (taken.small_mb, self.load_mb.max(self.defaults_mb))
        } else {
            // As seldom as small ones use what they may have, they keep large ones out of no more than half.
            (taken.small_mb.min(self.load_mb / 2), self.load_mb)
        };
        // What makers have in the room of theirs is nobody else's to have.
        let makers_mb = taken.makers_mb.saturating_sub(room_mb);
        let taken_mb = taken.large_mb() + small_mb + makers_mb;
        let most = load_mb.saturating_add(if goes_beyond { room_mb } else { 0 });
        taken_mb.saturating_add(job_mb) <= most
    }
}

/// What the executions in all workers may have that run, in MiB of their `memory_mb`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    all_mb: u64,
    /// Of load with no more than the default limit.
    small_mb: u64,
    /// Of makers' test runs and compilations.
    makers_mb: u64,
}

impl Taken {
    pub(super) const NONE: Self = Self { all_mb: 0, small_mb: 0, makers_mb: 0 };

    /// Of load with more than the default limit.
    const fn large_mb(self) -> u64 {
        self.all_mb - self.small_mb - self.makers_mb
    }

    /// An execution has begun.
    pub(super) fn add(&mut self, job: &Job) {
        let memory_mb = u64::from(job.memory_mb());
        self.all_mb += memory_mb;
        match job {
            Job { is_for_maker: true, .. } => self.makers_mb += memory_mb,
            load if load.is_small() => self.small_mb += memory_mb,
            _ => {}
        }
    }

    /// It is over.
    pub(super) fn remove(&mut self, job: &Job) {
        let memory_mb = u64::from(job.memory_mb());
        self.all_mb -= memory_mb;
        match job {
            Job { is_for_maker: true, .. } => self.makers_mb -= memory_mb,
            load if load.is_small() => self.small_mb -= memory_mb,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shared::id::UserId;

    use super::*;
    use crate::pool::job::Task;
    use crate::pool::mode::Mode;
    use crate::pool::sample;

    /// Half of the machine's memory.
    fn on(machine_mb: u64) -> WorkerMemory {
        WorkerMemory::new((machine_mb << 20) / 2, 16)
    }

    #[test]
    fn the_default_limit_fills_all_slots_on_every_machine() {
        let default = u64::from(MEMORY_MB_DEFAULT);
        for machine_mb in [256, 900, 1024, 2048, 4096, 65_536] {
            let memory = on(machine_mb);
            assert!(memory.load_mb >= 16 * default, "{memory:?}");
            assert!(memory.all_mb >= memory.load_mb + u64::from(COMPILE_MEMORY_MB), "{memory:?}");
            assert!(memory.share(16, 16) >= 16 * default, "{memory:?}");
        }
    }

    #[test]
    fn the_largest_limits_come_to_less_than_the_worker_may_have() {
        assert_eq!(on(4096), WorkerMemory { load_mb: 1587, all_mb: 1843 });
        assert_eq!(on(1024), WorkerMemory { load_mb: 512, all_mb: 576 });
    }

    #[test]
    fn an_app_has_the_memory_of_its_slots_and_can_always_run_something() {
        assert_eq!(on(4096).share(16, 16), 1587, "half of two workers");
        assert_eq!(on(1024).share(16, 1), u64::from(MEMORY_MB_MAX));
        assert!(WorkerMemory::UNBOUNDED.share(16, 16) > u64::from(u32::MAX));
    }

    /// Of so many workers with 16 slots each.
    fn of_all(machine_mb: u64, workers: u64) -> PoolMemory {
        PoolMemory::new((machine_mb << 20) / 2, on(machine_mb), 16 * workers)
    }

    fn job(memory_mb: u32) -> Job {
        let mut job = sample::run(Mode::Pinned, UserId::new());
        if let Task::Run(invocation) = &mut job.task {
            Arc::make_mut(&mut invocation.target).limits.memory_mb = memory_mb;
        }
        job
    }

    fn large_ones(all_mb: u64) -> Taken {
        Taken { all_mb, ..Taken::NONE }
    }

    fn small_ones(all_mb: u64) -> Taken {
        Taken { all_mb, small_mb: all_mb, makers_mb: 0 }
    }

    #[test]
    fn all_workers_together_have_less_than_three_quarters_of_the_machine() {
        let (memory, job) = (of_all(4096, 2), job(MEMORY_MB_MAX));
        let mut taken_mb = 0;
        for (is_first, most) in [(false, 2048), (true, 2304)] {
            while memory.has_room(large_ones(taken_mb), &job, is_first) {
                taken_mb += u64::from(MEMORY_MB_MAX);
            }
            assert_eq!(taken_mb, most, "first: {is_first}");
        }
        let (called, test) = (Job { is_nested: true, ..self::job(32) }, Job { is_for_maker: true, ..job });
        let (taken, more) = (large_ones(taken_mb), large_ones(taken_mb + 256));
        assert!(memory.has_room(taken, &called, false) && memory.has_room(taken, &test, false));
        assert!(!memory.has_room(more, &called, false), "that is for makers");
        assert!(taken_mb + 2 * 256 < 4096 / 4 * 3);
    }

    #[test]
    fn the_default_limit_fills_the_slots_of_all_workers_and_larger_ones_do_not() {
        let memory = of_all(1024, 4);
        let (small, large) = (job(MEMORY_MB_DEFAULT), job(MEMORY_MB_DEFAULT + 1));
        let taken_mb = u64::from(MEMORY_MB_DEFAULT) * 63;
        let (taken, all) = (small_ones(taken_mb), small_ones(u64::from(MEMORY_MB_DEFAULT) * 64));
        assert!(memory.has_room(taken, &small, false) && !memory.has_room(all, &small, false));
        assert!(!memory.has_room(large_ones(taken_mb), &large, false), "load of one worker is all that fits");
        let first = memory.has_room(large_ones(taken_mb), &large, true);
        assert!(first, "nobody's first is kept out by what is seldom used");
        let (largest, nothing) = (job(MEMORY_MB_MAX), Taken::default());
        assert!(memory.has_room(nothing, &largest, false), "by itself it is never too much");
        assert!(PoolMemory::UNBOUNDED.has_room(large_ones(u64::MAX), &large, false));
    }

    #[test]
    fn attack_test_runs_keep_nobody_out_of_the_room_for_first_executions() {
        let memory = of_all(4096, 2);
        let test = Job { is_for_maker: true, ..job(MEMORY_MB_MAX) };
        let mut taken = large_ones(memory.load_mb);
        assert!(memory.has_room(taken, &test, false), "makers have a room of theirs");
        taken.add(&test);
        assert!(!memory.has_room(taken, &test, false), "for one of the largest");
        assert!(
            memory.has_room(taken, &job(MEMORY_MB_MAX), true),
            "and it is not the one of who comes first"
        );
        let mut tests = Taken::NONE;
        for _ in 0..3 {
            assert!(memory.has_room(tests, &test, false), "where load has some left, they have more");
            tests.add(&test);
        }
        let load = job(MEMORY_MB_MAX);
        let mut taken = tests;
        while memory.has_room(taken, &load, false) {
            taken.add(&load);
        }
        assert!(taken.all_mb <= memory.load_mb + 256, "{taken:?}");
    }

    #[test]
    fn attack_small_ones_that_wait_do_not_keep_large_ones_out() {
        let memory = of_all(1024, 4);
        let large = job(MEMORY_MB_MAX);
        let parked = small_ones(u64::from(MEMORY_MB_DEFAULT) * 40);
        assert!(memory.has_room(parked, &large, false), "half of what load has is for them");
        let mut taken = parked;
        taken.add(&large);
        assert!(!memory.has_room(taken, &large, false), "and no more than that");
        taken.remove(&large);
        assert_eq!(taken, parked);
    }
}
