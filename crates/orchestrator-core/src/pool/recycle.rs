//! When a worker has worked for long enough: another takes its place, so that nothing it may have leaked adds up, and
//! nobody who got into it stays.

use std::time::Duration;

use super::connection::Connection;
use super::recruit::PoolConfig;
use super::state::State;

/// What a worker does before it is replaced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recycling {
    executions: u64,
    age: Duration,
}

impl Recycling {
    pub(super) const fn of(config: &PoolConfig) -> Self {
        Self { executions: config.recycle_after, age: config.recycle_age }
    }

    /// Looks at a worker in which an execution has ended: it gets no more work when its time has come, and ends when
    /// it has none.
    fn look_at(self, connections: &mut [Connection], at: usize) {
        let is_due = self.is_due(connections, at);
        let connection = &mut connections[at];
        connection.retiring |= is_due;
        if connection.retiring && connection.is_idle() {
            connection.stop();
        }
    }

    /// Workers that were started together do not leave together for their age: a long execution can keep each of
    /// them for minutes, beside the one that takes its place.
    fn is_due(self, connections: &[Connection], at: usize) -> bool {
        let connection = &connections[at];
        connection.executed >= self.executions
            || connection.employed.elapsed() >= self.age
                && (connection.is_idle() || !connections.iter().any(|other| other.retiring))
    }
}

impl State {
    /// Looks at a worker in which an execution has ended; true when somebody is to be hired. One that leaves is replaced
    /// before it is gone: what still runs in it can take minutes, and if somebody got into it, it need not go. The one that
    /// is there for a maker is, when the maker's job is done.
    pub(super) fn recycle(&mut self, recycling: Recycling, at: usize) -> bool {
        let was_retiring = self.connections[at].retiring;
        recycling.look_at(&mut self.connections, at);
        let connection = &self.connections[at];
        let begins_to_leave = connection.retiring && !was_retiring && !connection.is_kept;
        let is_done = connection.retiring && connection.is_idle();
        (begins_to_leave || is_done) && self.staff.replace(&mut self.connections, at)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Notify;

    use super::*;
    use crate::pool::verify::Isolation;

    const NEVER: Duration = Duration::MAX;

    fn worker(id: u64) -> Connection {
        Connection::new(id, (1, 2, Isolation::NONE), Arc::new(Notify::new()))
    }

    #[test]
    fn a_worker_leaves_after_its_executions_or_at_its_age() {
        for (executions, age, leaves) in [(1, NEVER, false), (0, NEVER, true), (1, Duration::ZERO, true)] {
            let mut workers = [worker(1)];
            Recycling { executions, age }.look_at(&mut workers, 0);
            assert_eq!(workers[0].retiring, leaves, "{executions} {age:?}");
            assert_eq!(workers[0].outbound.is_empty(), !leaves, "it is told to end at once");
        }
    }
}
