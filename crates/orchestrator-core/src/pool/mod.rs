//! The worker pool: who runs next, where, and what came of it.
//!
//! [`Pool`] is the handle. Behind it one lock guards the whole state ([`state`]), which is pure
//! bookkeeping; [`conversation`] does a worker's I/O, [`supervisor`] keeps the workers alive.

mod admission;
mod budget;
mod calls;
mod complaints;
mod connection;
mod conversation;
mod drain;
mod execution;
mod groups;
mod job;
mod library;
mod log;
mod loss;
mod memory;
mod mode;
mod news;
mod outcome;
mod pace;
mod process;
mod recruit;
mod recycle;
#[cfg(test)]
mod sample;
mod seeds;
mod socket;
mod staff;
mod state;
mod status;
mod supervisor;
mod suspicion;
mod tenancy;
mod verify;
mod violation;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use shared::invocation::{Refusal, Work, WorkResult};
use shared::ports::{BoxFuture, BundleSource, HostCalls, IncidentSink, Invoke, Permits, RecordSink};
use tokio::sync::oneshot;

pub use self::groups::{Controllers, Delegated, Ungrouped};
use self::job::{Job, Submitted};
use self::library::Images;
pub use self::mode::{Mode, UnknownMode};
pub use self::recruit::{HelloError, PoolConfig, Probe, StartError, probe};
use self::state::Shared;
pub use self::status::{PoolStatus, WorkerState, WorkerStatus};
use self::supervisor::Started;
pub use self::verify::{Isolation, VerifyError};

/// How long a request waits for a slot before it is refused.
const QUEUE_WAIT: Duration = Duration::from_secs(5);

/// A handle on the worker pool.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
    images: Arc<Images>,
    isolation: Isolation,
    grouping: Result<Controllers, Ungrouped>,
    mode: Mode,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

/// What the pool needs of the manager.
#[derive(Clone)]
pub struct Ports {
    pub bundles: Arc<dyn BundleSource>,
    pub records: Arc<dyn RecordSink>,
    pub permits: Arc<dyn Permits>,
    pub incidents: Arc<dyn IncidentSink>,
    pub calls: Arc<dyn HostCalls>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}

impl Pool {
    /// Starts the workers and waits until the first of them is ready.
    pub async fn start(config: PoolConfig, ports: Ports) -> Result<Self, StartError> {
        let mode = config.mode;
        let images = Arc::new(Images::new(Arc::clone(&ports.bundles)));
        let shared = Arc::new(Shared::new(&config, ports));
        let Started { isolation, grouping } = supervisor::start(config, shared.clone()).await?;
        Ok(Self { shared, images, isolation, grouping, mode })
    }

    /// How far apart tenants are kept.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The walls that all workers have who are at work; those of the first one while there are none. Each is looked at
    /// before it gets work.
    pub fn isolation(&self) -> Isolation {
        self.shared.isolation().unwrap_or(self.isolation)
    }

    /// By what the kernel limits each worker's control group, or why workers have none.
    pub const fn grouping(&self) -> Result<&Controllers, Ungrouped> {
        match &self.grouping {
            Ok(controllers) => Ok(controllers),
            Err(why) => Err(*why),
        }
    }

    /// Runs a piece of work to its end. A caller that goes away cancels it.
    pub async fn work(&self, work: Work) -> WorkResult {
        if let Work::Run(invocation) = &work
            && let Err(refusal) = self.shared.ports.permits.permit(&invocation.target)
        {
            return WorkResult::Refused(refusal);
        }
        let image = match self.images.image(&work).await {
            Ok(image) => image,
            Err(unavailable) => {
                tracing::error!(error = %unavailable, "a bundle cannot be read");
                return WorkResult::Refused(Refusal::BundleUnavailable);
            }
        };
        let (reply, mut result) = oneshot::channel();
        let (submitted, ticket) = match self.shared.submit(Job::new(self.mode, work, image, reply)) {
            Ok(submitted) => submitted,
            Err(refusal) => return WorkResult::Refused(refusal),
        };
        let mut cancel = CancelOnDrop { shared: &self.shared, ticket: Some(ticket) };
        if submitted == Submitted::Queued {
            let waited = tokio::time::timeout(QUEUE_WAIT, &mut result).await;
            if waited.is_err() && self.shared.withdraw(ticket) {
                cancel.ticket = None;
                return WorkResult::Refused(Refusal::Overloaded);
            }
            if let Ok(result) = waited {
                cancel.ticket = None;
                return result.unwrap_or(WorkResult::Refused(Refusal::ShuttingDown));
            }
        }
        let result = result.await;
        cancel.ticket = None;
        // The sender is dropped unused only when the pool goes away with work still queued.
        result.unwrap_or(WorkResult::Refused(Refusal::ShuttingDown))
    }

    pub fn status(&self) -> PoolStatus {
        self.shared.status()
    }

    /// The workers that are there, spares not counted.
    pub fn workers(&self) -> Vec<WorkerStatus> {
        self.shared.workers()
    }

    /// Refuses new work, lets running executions finish for up to `patience`, ends the workers.
    pub async fn drain(&self, patience: Duration) {
        self.shared.drain(patience).await;
    }
}

impl Invoke for Pool {
    fn invoke(&self, work: Work) -> BoxFuture<'_, WorkResult> {
        Box::pin(self.work(work))
    }
}

/// Ends an execution whose caller no longer waits for it.
struct CancelOnDrop<'a> {
    shared: &'a Shared,
    ticket: Option<u64>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.cancel(ticket);
        }
    }
}
