//! The way into the pool, and out of it for whoever no longer wants to wait.

use std::time::Instant;

use shared::invocation::{Invocation, Refusal};

use super::connection::Connection;
use super::execution::Cancelled;
use super::job::{Job, Submitted};
use super::mode::Mode;
use super::state::{Shared, State};
use super::tenancy::Tenant;

/// What an app may have running for its makers beside its load: somebody who tests while somebody
/// else deploys. More of it is load, or test runs would be a way around every share.
const MAKERS_PER_APP_MAX: usize = 2;

impl Shared {
    /// Starts a job, or has it wait.
    pub(super) fn submit(&self, mut job: Job) -> Result<(Submitted, u64), Refusal> {
        let mut state = self.lock();
        if state.draining {
            return Err(Refusal::ShuttingDown);
        }
        state.next_ticket += 1;
        let ticket = state.next_ticket;
        job.ticket = ticket;
        job.tenant = state.watch.tenant(&job, job.submitted).unwrap_or(job.tenant);
        // Whoever is none is not counted for: that looks at all slots of all workers.
        job.is_for_maker = job.is_for_maker && state.jobs_for_makers(job.app) < MAKERS_PER_APP_MAX;
        let may_start = state.admission.may_start(&job);
        if may_start && let Some(at) = state.staff.place(&state.connections, &job) {
            let mut hires = state.start(at, job);
            // It may have the memory for which a worker was kept.
            hires |= state.staff.saved.is_some() && state.save() && state.start_waiting();
            if hires {
                self.vacancy.notify_one();
            }
            return Ok((Submitted::Started, ticket));
        }
        if !state.may_wait(&job, may_start) {
            return Err(Refusal::Overloaded);
        }
        if let Err(refused) = state.admission.push(job.owner(), job) {
            // What it brings may be large, and is not given back while others wait for the pool.
            drop(state);
            drop(refused);
            return Err(Refusal::Overloaded);
        }
        let hires = if state.save() { state.start_waiting() } else { state.serve_waiting() };
        if hires {
            self.vacancy.notify_one();
        }
        Ok((Submitted::Queued, ticket))
    }

    /// Whether an invocation may be submitted once its code is read: whoever finds no place in the queue is refused before
    /// that. Who goes before load needs none there, nor does who may start at once: while nobody waits, or where nothing of
    /// its app waits and a worker has room.
    pub(super) fn has_place(&self, mode: Mode, invocation: &Invocation) -> Result<(), Refusal> {
        let state = self.lock();
        if state.draining {
            return Err(Refusal::ShuttingDown);
        }
        let target = &invocation.target;
        let goes_ahead = invocation.is_nested
            || invocation.is_test && state.jobs_for_makers(target.app) < MAKERS_PER_APP_MAX;
        let owner = mode.parts_tenants().then_some(target.owner);
        let waiting = &state.admission;
        let tenant = Tenant::of(mode, target.owner, target.app);
        let has_room = |worker: &Connection| {
            let desk = worker.desk(false);
            desk.room > 0 && desk.tenant.is_none_or(|its| its == tenant)
        };
        let may_start = || waiting.may_run_more(target.app) && state.connections.iter().any(has_room);
        if goes_ahead || waiting.queued() == 0 || waiting.has_place(target.app, owner) || may_start() {
            return Ok(());
        }
        Err(Refusal::Overloaded)
    }

    /// Takes a job out of the queue; false when it has started meanwhile.
    pub(super) fn withdraw(&self, ticket: u64) -> bool {
        let job = self.take_back(&mut self.lock(), ticket);
        job.is_some()
    }

    /// Those whom it held up are started at once, and those for whom there is room in what was kept for it. Answers the job
    /// if it waited, to be dropped when the pool is no longer locked: what it brings may be large.
    fn take_back(&self, state: &mut State, ticket: u64) -> Option<Job> {
        let job = state.admission.withdraw(ticket);
        state.staff.release(ticket);
        if job.is_some() && state.start_waiting() {
            self.vacancy.notify_one();
        }
        job
    }

    /// Ends a job whose caller is gone, wherever it is.
    pub(super) fn cancel(&self, ticket: u64) {
        let mut state = self.lock();
        let job = self.take_back(&mut state, ticket);
        if job.is_some() {
            drop(state);
            return;
        }
        let now = Instant::now();
        for connection in &mut state.connections {
            if connection.cancel(ticket, Cancelled::CallerLeft, now) {
                connection.wake.notify_one();
                return;
            }
        }
    }
}
