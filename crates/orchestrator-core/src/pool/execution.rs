//! One execution as the parent sees it: until when it may run, and what it is charged.

use std::time::{Duration, Instant};

use shared::invocation::LogEntry;
use shared::limits::{COMPILE_FUEL, FUEL_PER_US, KILL_GRACE_MS};
use shared::wire::frame::Done;

use super::budget::Budget;
use super::calls::Calls;
use super::job::Job;

/// How long an execution has to obey when it is told to end.
pub(super) const GRACE: Duration = Duration::from_millis(KILL_GRACE_MS);

/// Why an execution was told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cancelled {
    CallerLeft,
    Deadline,
}

/// Something running in a slot. Who it belongs to is known only on this side of the wall.
#[derive(Debug)]
pub(super) struct Execution {
    pub(super) job: Job,
    pub(super) started: Instant,
    pub(super) started_at_us: i64,
    pub(super) deadline: Instant,
    pub(super) cancelled: Option<Cancelled>,
    /// When only killing its worker helps, once it is cancelled: who is told late has as long to obey.
    pub(super) kill_at: Instant,
    pub(super) logs: Vec<LogEntry>,
    pub(super) budget: Budget,
    pub(super) calls: Calls,
}

impl Execution {
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// What its worker says it burnt, as far as it was allowed to: a worker that lies must not use up
    /// an app's budget.
    pub(super) fn fuel(&self, done: &Done<'_>) -> u64 {
        done.fuel.min(self.job.fuel_max())
    }

    /// What loading its code burnt, likewise.
    pub(super) fn load_fuel(done: &Done<'_>) -> u64 {
        done.load_fuel.min(COMPILE_FUEL)
    }

    /// What it is charged when its worker is gone and nobody can say: nothing, unless it ran until its
    /// deadline, which must not be a way to run for nothing.
    pub(super) fn fuel_when_lost(&self) -> u64 {
        let elapsed = self.started.elapsed();
        if self.started + elapsed < self.deadline {
            return 0;
        }
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        micros.saturating_mul(FUEL_PER_US).min(self.job.fuel_max())
    }

    /// When somebody must look at the clock for it.
    pub(super) fn next_deadline(&self) -> Instant {
        if self.cancelled.is_some() { self.kill_at } else { self.deadline }
    }
}
