//! What the pool says of itself to those who run it.

use schemars::JsonSchema;
use serde::Serialize;
use shared::id::{AppId, UserId};

use super::connection::Connection;
use super::state::Shared;
use super::verify::Isolation;

/// What the pool is doing right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PoolStatus {
    pub workers_ready: usize,
    /// Most workers there may be at once, spares not counted.
    pub workers_max: usize,
    pub executions_running: usize,
    pub executions_queued: usize,
    /// Workers that ended without having been asked to, since the start.
    pub workers_lost: u64,
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Nothing has run in it.
    Fresh,
    Idle,
    Busy,
    /// It gets no more work and ends when it has none.
    Leaving,
}

/// A worker process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WorkerStatus {
    pub pid: u32,
    pub state: WorkerState,
    /// The one whose apps it serves, when tenants are pinned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// The app it serves, in strict isolation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<AppId>,
    pub running: usize,
    pub executed: u64,
}

impl Shared {
    pub(super) fn status(&self) -> PoolStatus {
        let state = self.lock();
        PoolStatus {
            workers_max: state.staff.max,
            workers_ready: state.connections.iter().filter(|connection| !connection.retiring).count(),
            executions_running: state.running,
            executions_queued: state.admission.queued(),
            workers_lost: state.workers_lost,
        }
    }

    /// The walls that all workers have who are at work; nothing when there are none.
    pub(super) fn isolation(&self) -> Option<Isolation> {
        let state = self.lock();
        state.connections.iter().map(|connection| connection.isolation).reduce(Isolation::common)
    }

    /// Whether each worker that is at work is in a control group of its own, where workers get one.
    pub(super) fn are_grouped(&self) -> bool {
        self.lock().connections.iter().all(|connection| connection.is_grouped)
    }

    pub(super) fn workers(&self) -> Vec<WorkerStatus> {
        self.lock().connections.iter().map(Connection::status).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::mode::Mode;
    use crate::pool::recruit::PoolConfig;
    use crate::pool::sample;

    #[test]
    fn one_worker_outside_its_control_group_is_told_until_it_is_gone() {
        let shared = sample::shared(&PoolConfig::new("/".into(), 2, 16).isolated(Mode::Pinned));
        let attach = |is_grouped| shared.attach((1, 16, Isolation::NONE), is_grouped, None).unwrap().0;
        attach(true);
        assert!(shared.are_grouped());
        let outside = attach(false);
        attach(true);
        assert!(!shared.are_grouped());
        shared.detach(outside, Vec::new(), |_| false);
        assert!(shared.are_grouped());
    }
}
