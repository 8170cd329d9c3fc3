//! The end of a worker: whatever may have been the reason is watched before anything that waits is started.

use std::time::Instant;

use shared::incident::Suspect;
use shared::invocation::WorkResult;

use super::connection::Connection;
use super::job::{Job, Task};
use super::news::Gone;
use super::spawner::Line;
use super::state::{Shared, State};
use super::suspicion;
use super::violation::Violation;
use super::watch::Watched;

impl Shared {
    /// Watches what runs in a worker that has broken the protocol, and what has ended there. It is about to be killed:
    /// what waits must not be started in it, to be lost and suspected a moment later.
    pub(super) fn accuse(&self, id: u64, violation: Violation, ended: &[Suspect]) {
        let (mut state, now) = (self.lock(), Instant::now());
        let Some(at) = state.position(id) else {
            return;
        };
        state.connections[at].violation.get_or_insert(violation);
        let running = state.connections[at].executions().map(suspicion::suspect);
        let running = running.map(|suspect| Watched::from(&suspect));
        let all: Vec<Watched> = running.chain(ended.iter().map(Watched::from)).collect();
        all.into_iter().for_each(|who| state.watch.add(who, now));
        state.set_apart(now);
    }

    /// Starts nothing more in a worker that has hung up, while it is not known why.
    pub(super) fn give_up(&self, id: u64) {
        let mut state = self.lock();
        if let Some(at) = state.position(id) {
            state.connections[at].violation.get_or_insert(Violation::HungUp);
        }
        // It takes no turn any more, and its process may need milliseconds to end.
        state.forget(id);
    }

    /// Removes a worker that is gone; answers what is to be known of it. `just_ended` is what had ended when the worker broke
    /// the protocol; what may be the reason is watched if its end is suspicious, which may depend on whether it was
    /// asked to leave and had nothing left to do.
    pub(super) fn detach(
        &self,
        id: u64,
        just_ended: Vec<Suspect>,
        is_suspicious: impl FnOnce(bool) -> bool,
    ) -> Gone {
        let mut state = self.lock();
        let Some(at) = state.position(id) else {
            return Gone::default();
        };
        let mut connection = state.connections.remove(at);
        let executions = connection.take_executions();
        state.forget(id);
        for execution in &executions {
            state.running -= 1;
            state.admission.finished(execution.job.cost(execution.fuel_when_lost()));
            state.staff.taken.remove(&execution.job);
        }
        let may_leave = state.draining || connection.retiring && executions.is_empty();
        let mut suspects = just_ended;
        suspects.extend(executions.iter().map(suspicion::suspect));
        if suspects.is_empty() {
            suspects.extend(connection.last.take());
        }
        state.workers_lost += u64::from(!may_leave);
        let mut is_vacant = !connection.is_replaced && state.staff.leave(connection.is_kept);
        if is_suspicious(may_leave) {
            let now = Instant::now();
            suspects.iter().for_each(|suspect| state.watch.add(suspect.into(), now));
            state.set_apart(now);
            is_vacant |= state.dismiss_alike(connection.line);
        }
        if state.refill() || is_vacant {
            self.vacancy.notify_one();
        }
        self.changed.notify_waiters();
        // Before the connection, whose buffers may be large.
        drop(state);
        Gone {
            executions,
            suspects,
            may_leave,
            is_one_scripts: connection.sole.is_one(),
            has_worked: connection.executed > 0,
        }
    }
}

impl State {
    /// Sends away who has the layout of a worker that was lost and has had nothing to do: whoever made that one crash would
    /// be at work in the next, and know more of it. True when somebody is to be hired.
    fn dismiss_alike(&mut self, line: Option<Line>) -> bool {
        let Self { staff, connections, .. } = self;
        let is_alike = |worker: &Connection| line.is_some() && worker.line == line;
        let mut hires = false;
        for at in 0..connections.len() {
            if is_alike(&connections[at]) && connections[at].tenant.is_none() && !connections[at].retiring {
                hires |= staff.dismiss(connections, at);
            }
        }
        hires
    }

    /// Moves jobs that wait, and are watched now, to workers of their own, and those that no longer are back.
    fn set_apart(&mut self, now: Instant) {
        let Self { admission, watch, .. } = self;
        admission.change(|job| job.tenant = watch.tenant(job, now).unwrap_or(job.usual));
    }

    /// Asks once more whether a job may run, now that it has waited: its script may have been quarantined, or its
    /// app's budget used up, by what ran before it. One that may not is answered, and what it brought is left behind.
    pub(super) fn still_permitted(&mut self, job: Job) -> Option<Job> {
        let Task::Run(invocation) = &job.task else {
            return Some(job);
        };
        let Err(refusal) = self.permits.permit(&invocation.target) else {
            return Some(job);
        };
        let Job { app, task, image, reply, .. } = job;
        self.admission.forget_if_idle(app);
        self.refused.push((task, image));
        // Its caller may be gone.
        let _ = reply.send(WorkResult::Refused(refusal));
        None
    }
}

#[cfg(test)]
mod tests {
    use shared::id::UserId;

    use super::*;
    use crate::pool::job::Submitted;
    use crate::pool::mode::Mode;
    use crate::pool::recruit::PoolConfig;
    use crate::pool::sample;
    use crate::pool::verify::Isolation;

    #[test]
    fn attack_no_job_starts_in_a_fresh_worker_that_is_like_the_one_that_was_lost() {
        for (line, is_next_started) in [(Some(Line(0)), false), (Some(Line(1)), true), (None, true)] {
            let shared = sample::shared(&PoolConfig::new("/".into(), 2, 2));
            let attach = |line| shared.attach((1, 2, Isolation::NONE), true, line).unwrap().0;
            let lost = attach(Some(Line(0)));
            while shared.lock().staff.hire() {}
            assert_eq!(
                shared.submit(sample::run(Mode::Pinned, UserId::new())).unwrap().0,
                Submitted::Started
            );
            let fresh = attach(line);
            assert!(shared.detach(lost, Vec::new(), |_| true).executions.len() == 1);
            let next = shared.submit(sample::run(Mode::Pinned, UserId::new())).unwrap().0;
            assert_eq!(next == Submitted::Started, is_next_started, "{line:?}");
            let mut state = shared.lock();
            let at = state.position(fresh).unwrap();
            assert_eq!(state.connections[at].retiring, !is_next_started);
            let hired = std::iter::from_fn(|| state.staff.hire().then_some(())).count();
            assert_eq!(hired, if is_next_started { 1 } else { 2 }, "for each that is gone or goes");
        }
    }
}
