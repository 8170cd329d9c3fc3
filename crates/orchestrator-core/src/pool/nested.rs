//! Workers for scripts that others call by `invoke`, where a worker has only one slot for load: the caller has that one
//! until it is answered. Elsewhere who is called has another slot of the same workers.

use shared::limits::DEPTH_MAX;

use super::admission::Admission;
use super::connection::Connection;
use super::job::Job;
use super::staff::{Staff, is_staying};
use super::tenancy::{self, Desk, Tenant};
use super::watch::Circle;

/// Executions beyond its share that a tenant may have for those whom its own call, each in a worker of its own: enough
/// for one chain of calls, which begins at depth 0. None where workers have several slots for load.
pub(super) const fn beyond_share(slots_per_worker: u16) -> usize {
    // Of two slots one is kept for makers.
    if slots_per_worker > 2 { 0 } else { DEPTH_MAX as usize }
}

impl Staff {
    /// Most workers that a job's tenant may have for the job to get a fresh one. For who is called that is never the last
    /// one for load, unless there are only two.
    pub(super) fn most(&self, job: &Job) -> usize {
        if !job.is_nested || self.nested == 0 {
            return self.share;
        }
        (self.share + self.nested).min(self.max.saturating_sub(1)).max(self.share + 1)
    }

    /// Most workers of those who are watched together when one calls another: that caller ends only when it has been
    /// answered, and others have one left.
    pub(super) fn called_max(&self) -> usize {
        // With two workers there is none left, or nobody could be called.
        self.together_max().max(self.max.saturating_sub(1)).max(2)
    }

    /// Whether a worker comes for a nested job that has no place: one that is made, or that takes the place of one which
    /// has nothing to do. It waits for no other, because who works may be its caller, or somebody who waits like that.
    pub(super) fn may_send_for(
        &self,
        waiting: &Admission<Job>,
        connections: &[Connection],
        job: &Job,
    ) -> bool {
        let is_own =
            |connection: &&Connection| connection.tenant == Some(job.tenant) && is_staying(connection);
        if self.nested == 0
            || connections.iter().filter(is_own).count() >= self.most(job)
            || Circle::of(job).is_some_and(|circle| self.together(connections, circle) >= self.called_max())
            || !self.has_memory(connections, job)
        {
            return false;
        }
        self.wanted < self.max
            || self.coming(connections) > waiting.queued()
            || idle_of_others(connections, job.tenant).is_some()
    }
}

/// The worker of other tenants that has been idle for longest. Who works stays: it may wait for the same.
pub(super) fn idle_of_others(connections: &[Connection], tenant: Tenant) -> Option<usize> {
    let desk = |worker: &Connection| {
        let desk = worker.desk(false);
        let is_meant = desk.is_idle && desk.tenant != Some(tenant);
        Desk { is_leaving: desk.is_leaving || !is_meant, ..desk }
    };
    tenancy::evict(&connections.iter().map(desk).collect::<Vec<_>>())
}
