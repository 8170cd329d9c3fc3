//! When a worker has worked for long enough: another takes its place, so that nothing it may have leaked adds up, and
//! nobody who got into it stays. And who has to go so that somebody else gets a worker, and how the place of one is given
//! away that leaves, for whatever reason.

use std::time::Duration;

use super::connection::Connection;
use super::recruit::PoolConfig;
use super::room::is_stuck;
use super::staff::Staff;
use super::state::State;
use super::tenancy::{self, Desk};
use super::watch::Circle;

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

impl Staff {
    /// Workers that are on their way, or will soon take the place of one that leaves: these are for somebody already. Who
    /// is at work may keep its place for minutes.
    pub(super) fn coming(&self, connections: &[Connection]) -> usize {
        let counts = |c: &&Connection| !c.retiring || c.is_kept && !c.is_replaced || is_parting(c);
        self.wanted.saturating_sub(connections.iter().filter(counts).count())
    }

    /// Sends a worker away for somebody without one; of one circle's, if there is one. As many who find nobody idle as
    /// workers leave already wait for these, and no other that is at work has to go: but nobody waits for one that stays for
    /// long while there is another that may be gone sooner. True when somebody is to be hired; nothing when nobody can go.
    pub(super) fn make_room(
        &mut self,
        connections: &mut [Connection],
        of: Option<Circle>,
        parting: &mut Vec<Parting>,
    ) -> Option<bool> {
        let is_meant = |worker: &Connection| of.is_none_or(|circle| self.is_apart(worker, circle));
        let mut at = leaver(connections, is_meant, |_| false)?;
        if connections[at].is_idle() {
            return Some(self.dismiss(connections, at));
        }
        let first = |is_stuck: bool| {
            let is_one = |one: &Parting| one.is_stuck == is_stuck && is_meant(&connections[one.at]);
            parting.iter().position(is_one)
        };
        let mut awaited = first(false);
        if awaited.is_none() {
            at = leaver(connections, is_meant, is_stuck)?;
            awaited = first(true).filter(|_| is_stuck(&connections[at]));
        }
        if let Some(awaited) = awaited {
            parting.remove(awaited);
            return Some(false);
        }
        Some(self.dismiss(connections, at))
    }

    /// Sends a worker away. One that is idle ends at once, and the next need not wait until its process
    /// is gone, which takes the kernel longer than most requests: true when somebody is to be hired.
    pub(super) fn dismiss(&mut self, connections: &mut [Connection], at: usize) -> bool {
        connections[at].retire();
        connections[at].is_idle() && self.replace(connections, at)
    }

    /// Gives away the place of a worker that is told to leave; true when somebody is to be hired. There are never more
    /// such processes than workers: those that stay although they are told to leave would add up.
    pub(super) fn replace(&mut self, connections: &mut [Connection], at: usize) -> bool {
        let replaced = connections.iter().filter(|connection| connection.is_replaced).count();
        if connections[at].is_replaced || replaced >= self.max {
            return false;
        }
        connections[at].is_replaced = true;
        self.leave(connections[at].is_kept)
    }
}

/// Whether a worker is at work that leaves after it, and nobody takes its place before.
pub(super) fn is_parting(connection: &Connection) -> bool {
    let has_its_place = !connection.is_replaced && !connection.is_kept;
    connection.retiring && has_its_place && !connection.is_idle()
}

/// A worker that [`is_parting`], and makes room for one of those who wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parting {
    at: usize,
    /// Whether it stays for long.
    is_stuck: bool,
}

pub(super) fn parting(connections: &[Connection]) -> Vec<Parting> {
    let all = connections.iter().enumerate().filter(|(_, worker)| is_parting(worker));
    all.map(|(at, worker)| Parting { at, is_stuck: is_stuck(worker) }).collect()
}

/// The worker that has to go, of those that are meant: see [`tenancy::evict`]. Of those at work none that `is_last` where
/// there is another.
fn leaver(
    connections: &[Connection],
    is_meant: impl Fn(&Connection) -> bool,
    is_last: impl Fn(&Connection) -> bool,
) -> Option<usize> {
    let mut order: Vec<usize> = (0..connections.len()).collect();
    order.sort_by_cached_key(|at| is_last(&connections[*at]));
    let desk = |at: &usize| {
        let worker = &connections[*at];
        let desk = worker.desk(false);
        Desk { is_leaving: desk.is_leaving || !is_meant(worker), ..desk }
    };
    let desks: Vec<Desk> = order.iter().map(desk).collect();
    tenancy::evict(&desks).map(|at| order[at])
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
