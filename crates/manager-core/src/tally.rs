//! How executions end, counted for who watches the server. Numbers only: no app, script or path, so
//! there are as many of them however many tenants there are.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use shared::invocation::{ExecutionRecord, ExecutionStatus};

/// Upper bounds of the classes of durations, in seconds: from a hello script to the longest timeout.
const DURATION_BOUNDS_S: [f64; 12] =
    [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0];

#[derive(Debug, Default)]
pub(crate) struct Tally {
    ended: [AtomicU64; ExecutionStatus::ALL.len()],
    fuel: AtomicU64,
    duration_us: AtomicU64,
    /// Not cumulative; the last class has no bound.
    durations: [AtomicU64; DURATION_BOUNDS_S.len() + 1],
}

/// The counts since the start.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutionCounters {
    /// By status, every status that there is.
    pub ended: Vec<(&'static str, u64)>,
    pub fuel: u64,
    pub duration_s: f64,
    /// How many took at most so many seconds and more than the bound before; the last bound is infinite.
    pub durations: Vec<(f64, u64)>,
}

impl Tally {
    pub(crate) fn count(&self, record: &ExecutionRecord) {
        let at = ExecutionStatus::ALL.iter().position(|status| *status == record.status);
        if let Some(count) = at.and_then(|at| self.ended.get(at)) {
            count.fetch_add(1, Relaxed);
        }
        self.fuel.fetch_add(record.usage.fuel, Relaxed);
        self.duration_us.fetch_add(record.usage.duration_us, Relaxed);
        let seconds = seconds(record.usage.duration_us);
        let class = DURATION_BOUNDS_S.iter().position(|bound| seconds <= *bound);
        self.durations[class.unwrap_or(DURATION_BOUNDS_S.len())].fetch_add(1, Relaxed);
    }

    pub(crate) fn read(&self) -> ExecutionCounters {
        let statuses = ExecutionStatus::ALL.iter().map(|status| status.as_str());
        let bounds = DURATION_BOUNDS_S.into_iter().chain([f64::INFINITY]);
        ExecutionCounters {
            ended: statuses.zip(self.ended.iter().map(|count| count.load(Relaxed))).collect(),
            fuel: self.fuel.load(Relaxed),
            duration_s: seconds(self.duration_us.load(Relaxed)),
            durations: bounds.zip(self.durations.iter().map(|count| count.load(Relaxed))).collect(),
        }
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1_000_000.0
}
