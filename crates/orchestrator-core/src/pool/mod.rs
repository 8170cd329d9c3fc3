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
mod entry;
mod execution;
mod groups;
mod job;
mod layout;
mod library;
mod lines;
mod locked;
mod log;
mod loss;
mod memory;
mod mode;
mod nested;
mod news;
mod outbound;
mod outcome;
mod pace;
mod probe;
mod process;
mod recruit;
mod recycle;
mod room;
#[cfg(test)]
mod sample;
mod seeds;
mod shelf;
mod socket;
mod spawner;
mod staff;
mod state;
mod status;
mod stillness;
mod supervisor;
mod suspicion;
mod tenancy;
mod verify;
mod violation;
mod watch;
mod zygote;

use std::sync::Arc;
use std::time::Duration;

use shared::invocation::{Refusal, Work, WorkResult};
use shared::ports::{BoxFuture, BundleSource, HostCalls, IncidentSink, Invoke, Permits, RecordSink};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

pub use self::groups::{Controllers, Delegated, Ungrouped};
use self::job::{Job, LoadableImage, Submitted};
use self::library::Images;
pub use self::mode::{Mode, UnknownMode};
pub use self::probe::{Probe, probe};
pub use self::recruit::{HelloError, PoolConfig, StartError};
use self::state::Shared;
pub use self::status::{PoolStatus, WorkerState, WorkerStatus};
use self::supervisor::Started;
pub use self::verify::{Isolation, VerifyError};

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

    /// By what the kernel limits each worker's control group, or why workers have none, or one of them at work.
    pub fn grouping(&self) -> Result<&Controllers, Ungrouped> {
        match &self.grouping {
            Ok(_) if !self.shared.are_grouped() => Err(Ungrouped::Outside),
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
        let begun = Instant::now();
        let image = match self.image(&work, begun).await {
            Ok(image) => image,
            Err(refusal) => return WorkResult::Refused(refusal),
        };
        let (reply, mut result) = oneshot::channel();
        let job = Job::new(self.mode, work, image, reply);
        let until = begun + job.patience();
        let (submitted, ticket) = match self.shared.submit(job) {
            Ok(submitted) => submitted,
            Err(refusal) => return WorkResult::Refused(refusal),
        };
        let mut cancel = CancelOnDrop { shared: &self.shared, ticket: Some(ticket) };
        if submitted == Submitted::Queued {
            let waited = timeout_at(until, &mut result).await;
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

    /// The work's code. For whoever finds no place in the queue none is read.
    async fn image(&self, work: &Work, begun: Instant) -> Result<LoadableImage, Refusal> {
        let invocation = match work {
            Work::Run(invocation) => invocation,
            Work::Compile(compilation) => return Ok(Images::compilable(compilation)),
        };
        let target = &invocation.target;
        if let Some(image) = self.images.at_hand(target) {
            return Ok(image);
        }
        self.shared.has_place(self.mode, invocation)?;
        let patience = job::patience(invocation.is_nested, target.limits.timeout_ms);
        let image = self.images.fetch(target, begun + patience).await?;
        // That may have taken seconds.
        self.shared.ports.permits.permit(target)?;
        Ok(image)
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::SeqCst;

    use shared::id::UserId;
    use shared::ports::BundleUnavailable;
    use shared::script::{Bundle, BundleHash, ScriptKind};
    use tokio::task::{JoinHandle, yield_now};

    use super::job::Task;
    use super::*;

    /// Counts what is read.
    #[derive(Default)]
    struct Source(AtomicUsize);

    impl BundleSource for Source {
        fn bundle(&self, _: BundleHash) -> BoxFuture<'_, Result<Arc<Bundle>, BundleUnavailable>> {
            self.0.fetch_add(1, SeqCst);
            Box::pin(async { Ok(Arc::new(Bundle::single(ScriptKind::Endpoint, "script", "1"))) })
        }
    }

    /// A pool without workers, in whose queue so many may wait.
    fn pool(mode: Mode, queue_max: usize) -> (Pool, Arc<Source>) {
        let config = PoolConfig { queue_max, ..PoolConfig::new("/".into(), 1, 4).isolated(mode) };
        let source = Arc::new(Source::default());
        let pool = Pool {
            shared: Arc::new(sample::shared(&config)),
            images: Arc::new(Images::new(source.clone())),
            isolation: Isolation::NONE,
            grouping: Err(Ungrouped::Unwanted),
            mode,
        };
        (pool, source)
    }

    /// A request to a script whose code nobody else has.
    fn cold(mode: Mode, owner: UserId, number: u8) -> Work {
        let Task::Run(mut invocation) = sample::run(mode, owner).task else { unreachable!("it runs") };
        Arc::make_mut(&mut invocation.target).bundle = BundleHash([number; 32]);
        Work::Run(invocation)
    }

    fn begin(pool: &Pool, work: Work) -> JoinHandle<WorkResult> {
        let pool = pool.clone();
        tokio::spawn(async move { pool.work(work).await })
    }

    async fn until_queued(pool: &Pool, count: usize) {
        while pool.status().executions_queued < count {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn attack_a_full_queue_refuses_a_script_before_its_code_is_read() {
        let (pool, source) = pool(Mode::Shared, 2);
        let _waiting = [1, 2].map(|number| begin(&pool, cold(Mode::Shared, UserId::new(), number)));
        until_queued(&pool, 2).await;
        let refused = pool.work(cold(Mode::Shared, UserId::new(), 3)).await;
        assert!(matches!(refused, WorkResult::Refused(Refusal::Overloaded)), "{refused:?}");
        assert_eq!(source.0.load(SeqCst), 2);
        let Work::Run(test) = cold(Mode::Shared, UserId::new(), 4) else { unreachable!("it runs") };
        let _tested = begin(&pool, Work::Run(test.as_test()));
        until_queued(&pool, 3).await;
        assert_eq!(source.0.load(SeqCst), 3, "whoever goes before load needs no place");
    }

    #[tokio::test]
    async fn an_owner_of_whom_nothing_waits_has_code_read_although_the_queue_is_full() {
        let (pool, source) = pool(Mode::Pinned, 2);
        let _waiting = [1, 2].map(|number| begin(&pool, cold(Mode::Pinned, UserId::new(), number)));
        until_queued(&pool, 2).await;
        let _late = begin(&pool, cold(Mode::Pinned, UserId::new(), 3));
        until_queued(&pool, 3).await;
        assert_eq!(source.0.load(SeqCst), 3);
    }
}
