//! One execution as the parent sees it: until when it may run, and what it is charged.

use std::time::{Duration, Instant};

use shared::invocation::LogEntry;
use shared::limits::{COMPILE_FUEL, FUEL_PER_US, KILL_GRACE_MS};
use shared::wire::frame::Done;

use super::budget::Budget;
use super::calls::Calls;
use super::job::{Job, Task};

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
        micros.saturating_mul(FUEL_PER_US).min(self.job.fuel_max().saturating_add(self.load_fuel_max()))
    }

    /// Most fuel that loading its code can have burnt as well, as far as is known: a guest that has said something had
    /// been loaded, and may have waited since. Of who has said nothing it is not known: code that its worker was sent long
    /// ago is loaded anew by each of those that begin before it is loaded once, after a try that failed, and when its image
    /// had to make room. A compilation is nothing but loading.
    fn load_fuel_max(&self) -> u64 {
        let has_spoken = self.calls.count() > 0 || !self.logs.is_empty();
        if has_spoken || matches!(self.job.task, Task::Compile) { 0 } else { COMPILE_FUEL }
    }

    /// When somebody must look at the clock for it.
    pub(super) fn next_deadline(&self) -> Instant {
        if self.cancelled.is_some() { self.kill_at } else { self.deadline }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shared::host_call::LogLevel;
    use shared::id::UserId;
    use shared::limits::FUEL_MIN;

    use super::*;
    use crate::pool::mode::Mode;
    use crate::pool::sample;

    /// Something that has run for so long, and was to end when half of that was over.
    fn overdue(mut job: Job, ran: Duration) -> Execution {
        if let Task::Run(invocation) = &mut job.task {
            Arc::make_mut(&mut invocation.target).limits.fuel = FUEL_MIN;
        }
        let started = Instant::now() - ran;
        Execution {
            job,
            started,
            started_at_us: 0,
            deadline: started + ran / 2,
            cancelled: None,
            kill_at: started,
            logs: Vec::new(),
            budget: Budget::default(),
            calls: Calls::default(),
        }
    }

    #[test]
    fn attack_62_loading_that_ended_with_its_worker_is_charged_by_time_however_little_fuel_the_script_has() {
        let run = || sample::run(Mode::Shared, UserId::new());
        let charged = overdue(run(), Duration::from_secs(1)).fuel_when_lost();
        assert!((1_000_000 * FUEL_PER_US..=FUEL_MIN + COMPILE_FUEL).contains(&charged), "{charged}");
        let mut execution = overdue(run(), Duration::from_secs(10));
        assert_eq!(execution.fuel_when_lost(), FUEL_MIN + COMPILE_FUEL);
        let line = LogEntry { level: LogLevel::Info, message: "loaded".to_owned(), data: String::new() };
        execution.logs.push(line);
        assert_eq!(execution.fuel_when_lost(), FUEL_MIN);
        let compilation = overdue(sample::compilation(Mode::Shared, UserId::new()), Duration::from_secs(10));
        assert_eq!(compilation.fuel_when_lost(), COMPILE_FUEL);
    }

    #[test]
    fn who_lost_its_worker_before_its_deadline_is_charged_nothing() {
        let mut execution = overdue(sample::run(Mode::Shared, UserId::new()), Duration::from_secs(1));
        execution.deadline = Instant::now() + Duration::from_secs(60);
        assert_eq!(execution.fuel_when_lost(), 0);
    }
}
