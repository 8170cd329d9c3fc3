//! The end of a worker: whatever may have been the reason is watched before anything that waits is started.

use std::time::Instant;

use shared::incident::Suspect;
use shared::invocation::WorkResult;

use super::job::{Job, Task};
use super::news::Gone;
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
        if is_suspicious(may_leave) {
            let now = Instant::now();
            suspects.iter().for_each(|suspect| state.watch.add(suspect.into(), now));
            state.set_apart(now);
        }
        let is_vacant = !connection.is_replaced && state.staff.leave(connection.is_kept);
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
