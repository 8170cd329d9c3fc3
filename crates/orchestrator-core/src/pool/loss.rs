//! The end of a worker: whatever may have been the reason is watched before anything that waits is started.

use std::time::Instant;

use shared::incident::Suspect;
use shared::invocation::WorkResult;

use super::job::{Job, Task};
use super::news::Gone;
use super::state::{Shared, State};
use super::suspicion;
use super::watch::Watched;

impl Shared {
    /// Watches what runs in a worker that has broken the protocol, and what has ended there. It is about to be killed,
    /// but its free slots are filled first.
    pub(super) fn accuse(&self, id: u64, ended: &[Suspect]) {
        let (mut state, now) = (self.lock(), Instant::now());
        let Some(at) = state.position(id) else {
            return;
        };
        let running = state.connections[at].executions().map(suspicion::suspect);
        let running = running.map(|suspect| Watched::from(&suspect));
        let all: Vec<Watched> = running.chain(ended.iter().map(Watched::from)).collect();
        all.into_iter().for_each(|who| state.watch.add(who, now));
        state.set_apart(now);
    }

    /// Removes a worker that is gone; answers what is to be known of it. How its process ended is seen only later, when
    /// jobs that waited have long been started: so what may be the reason is watched at once, and forgiven if it
    /// turns out to be none. `just_ended` is what had ended when the worker broke the protocol.
    pub(super) fn detach(&self, id: u64, just_ended: Vec<Suspect>) -> Gone {
        let mut state = self.lock();
        let Some(at) = state.position(id) else {
            return Gone::default();
        };
        let mut connection = state.connections.remove(at);
        let executions = connection.take_executions();
        let next = state.pace.forget(id);
        state.wake(next);
        for execution in &executions {
            state.running -= 1;
            state.admission.finished(execution.job.cost(execution.fuel_when_lost()));
        }
        let may_leave = state.draining || connection.retiring && executions.is_empty();
        let mut suspects = just_ended;
        suspects.extend(executions.iter().map(suspicion::suspect));
        if suspects.is_empty() {
            suspects.extend(connection.last.take());
        }
        let mut tried_out = Vec::new();
        if !may_leave {
            state.workers_lost += 1;
            tried_out = state.try_out(&suspects);
        }
        let is_vacant = !connection.is_replaced && state.staff.leave(connection.is_kept);
        if state.refill() || is_vacant {
            self.vacancy.notify_one();
        }
        self.changed.notify_waiters();
        Gone {
            executions,
            suspects,
            tried_out,
            may_leave,
            is_one_scripts: connection.sole.is_one(),
            has_worked: connection.executed > 0,
        }
    }

    /// Gives what is suspected workers of its own from now on.
    pub(super) fn watch(&self, suspects: &[Suspect]) {
        let (mut state, now) = (self.lock(), Instant::now());
        suspects.iter().for_each(|suspect| state.watch.add(suspect.into(), now));
        state.set_apart(now);
        if state.refill() {
            self.vacancy.notify_one();
        }
    }

    /// Takes back what was tried out: the worker was ended from outside.
    pub(super) fn forgive(&self, tried_out: &[(Watched, Instant)]) {
        let mut state = self.lock();
        tried_out.iter().for_each(|(who, since)| state.watch.forgive(*who, *since));
    }
}

impl State {
    fn try_out(&mut self, suspects: &[Suspect]) -> Vec<(Watched, Instant)> {
        let now = Instant::now();
        let all = suspects.iter().map(Watched::from);
        let new = all.filter(|who| self.watch.try_out(*who, now)).map(|who| (who, now)).collect();
        self.set_apart(now);
        new
    }

    /// Moves jobs that wait, and are watched now, to workers of their own.
    fn set_apart(&mut self, now: Instant) {
        let Self { admission, watch, .. } = self;
        for job in admission.waiting_mut() {
            if let Some(tenant) = watch.tenant(job, now) {
                job.tenant = tenant;
            }
        }
    }

    /// Asks once more whether a job may run, now that it has waited: its script may have been quarantined, or its
    /// app's budget used up, by what ran before it. One that may not is answered.
    pub(super) fn still_permitted(&mut self, job: Job) -> Option<Job> {
        let Task::Run(invocation) = &job.task else {
            return Some(job);
        };
        let Err(refusal) = self.permits.permit(&invocation.target) else {
            return Some(job);
        };
        self.admission.forget_if_idle(job.app);
        // Its caller may be gone.
        let _ = job.reply.send(WorkResult::Refused(refusal));
        None
    }
}
