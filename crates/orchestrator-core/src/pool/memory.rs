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

#[cfg(test)]
mod tests {
    use super::*;

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
}
