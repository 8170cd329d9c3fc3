//! The pool's shared state: one lock, short sections, no I/O inside.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shared::id::AppId;
use shared::invocation::{Refusal, Work};
use shared::ports::{BundleSource, BundleUnavailable, RecordSink};
use shared::wire::codec::{HEADER_BYTES, Header};
use shared::wire::frame::FromWorker;
use tokio::sync::Notify;

use super::PoolStatus;
use super::admission::{Admission, Queued};
use super::connection::{Cancelled, Connection, Execution, Start, Violation};
use super::job::{ImageKey, Job, LoadableImage};
use super::library::{self, Library};
use super::supervisor::PoolConfig;

/// Whether a submitted job runs already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Submitted {
    Started,
    Queued,
}

/// A frame that ended an execution: what ran, and where its body lies in the bytes passed in.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) execution: Execution,
    pub(super) body: std::ops::Range<usize>,
}

pub(super) struct Shared {
    state: Mutex<State>,
    library: Mutex<Library>,
    bundles: Arc<dyn BundleSource>,
    pub(super) records: Arc<dyn RecordSink>,
    recycle_after: u64,
    /// Notified when an execution ends or a worker leaves while the pool drains.
    pub(super) changed: Notify,
}

struct State {
    connections: Vec<Connection>,
    admission: Admission<Job>,
    running: usize,
    next_ticket: u64,
    next_connection: u64,
    draining: bool,
    workers_lost: u64,
    seeds: Seeds,
}

impl Queued for Job {
    fn app(&self) -> AppId {
        self.app
    }

    fn ticket(&self) -> u64 {
        self.ticket
    }
}

impl Shared {
    pub(super) fn new(
        config: &PoolConfig,
        bundles: Arc<dyn BundleSource>,
        records: Arc<dyn RecordSink>,
    ) -> Self {
        let slots = config.workers * usize::from(config.slots_per_worker);
        let state = State {
            connections: Vec::new(),
            admission: Admission::new(config.queue_max, (slots / 2).max(1)),
            running: 0,
            next_ticket: 0,
            next_connection: 0,
            draining: false,
            workers_lost: 0,
            seeds: Seeds::default(),
        };
        Self {
            state: Mutex::new(state),
            library: Mutex::default(),
            bundles,
            records,
            recycle_after: config.recycle_after,
            changed: Notify::new(),
        }
    }

    /// The work's code in the form in which workers get it.
    pub(super) async fn image(&self, work: &Work) -> Result<LoadableImage, BundleUnavailable> {
        let target = match work {
            Work::Run(invocation) => &invocation.target,
            // Source that may never be deployed is not worth keeping.
            Work::Compile(compilation) => {
                let key = ImageKey::new(compilation.bundle.hash(), &compilation.limits);
                return Ok(library::loadable(key, &compilation.bundle));
            }
        };
        let key = ImageKey::new(target.bundle, &target.limits);
        if let Some(image) = lock(&self.library).get(key) {
            return Ok(image);
        }
        let bundle = self.bundles.bundle(key.bundle).await?;
        let image = library::loadable(key, &bundle);
        lock(&self.library).keep(&image);
        Ok(image)
    }

    pub(super) fn submit(&self, mut job: Job) -> Result<(Submitted, u64), Refusal> {
        let mut state = lock(&self.state);
        if state.draining {
            return Err(Refusal::ShuttingDown);
        }
        state.next_ticket += 1;
        let ticket = state.next_ticket;
        job.ticket = ticket;
        if state.admission.may_start(job.app)
            && let Some(at) = state.roomiest()
        {
            state.start(at, job);
            return Ok((Submitted::Started, ticket));
        }
        match state.admission.push(job) {
            Ok(()) => Ok((Submitted::Queued, ticket)),
            Err(_) => Err(Refusal::Overloaded),
        }
    }

    /// Takes a job out of the queue; false when it has started meanwhile.
    pub(super) fn withdraw(&self, ticket: u64) -> bool {
        lock(&self.state).admission.withdraw(ticket).is_some()
    }

    /// Ends a job whose caller is gone, wherever it is.
    pub(super) fn cancel(&self, ticket: u64) {
        let mut state = lock(&self.state);
        if state.admission.withdraw(ticket).is_some() {
            return;
        }
        for connection in &mut state.connections {
            if connection.cancel(ticket, Cancelled::CallerLeft) {
                connection.wake.notify_one();
                return;
            }
        }
    }

    /// Makes a worker available. Answers its id and what wakes its conversation; nothing while the
    /// pool drains.
    pub(super) fn attach(&self, slots: u16) -> Option<(u64, Arc<Notify>)> {
        let mut state = lock(&self.state);
        if state.draining {
            return None;
        }
        state.next_connection += 1;
        let id = state.next_connection;
        let wake = Arc::new(Notify::new());
        state.connections.push(Connection::new(id, slots, wake.clone()));
        state.refill();
        Some((id, wake))
    }

    /// Removes a worker that is gone; answers what it was running.
    pub(super) fn detach(&self, id: u64) -> Vec<Execution> {
        let mut state = lock(&self.state);
        let Some(at) = state.position(id) else {
            return Vec::new();
        };
        let mut connection = state.connections.remove(at);
        let executions = connection.take_executions();
        for execution in &executions {
            state.running -= 1;
            state.admission.finished(execution.job.app, 0);
        }
        if !(state.draining || connection.retiring && executions.is_empty()) {
            state.workers_lost += 1;
        }
        state.refill();
        self.changed.notify_waiters();
        executions
    }

    /// Moves what is to be sent to worker `id` onto the end of `outbound`; answers when its
    /// conversation must look at the clock again.
    pub(super) fn collect(&self, id: u64, outbound: &mut Vec<u8>) -> Option<Instant> {
        let mut state = lock(&self.state);
        let at = state.position(id)?;
        let connection = &mut state.connections[at];
        if outbound.is_empty() {
            std::mem::swap(outbound, &mut connection.outbound);
        } else {
            outbound.append(&mut connection.outbound);
        }
        connection.next_deadline()
    }

    /// True when a deadline has been ignored for so long that the worker must be killed.
    pub(super) fn enforce_deadlines(&self, id: u64, now: Instant) -> bool {
        let mut state = lock(&self.state);
        state.position(id).is_some_and(|at| state.connections[at].enforce_deadlines(now))
    }

    /// Takes in the whole frames at the beginning of `bytes`; answers how many bytes they were, and
    /// the executions they ended. Free slots are filled at once, before anyone looks at results.
    pub(super) fn accept(&self, id: u64, bytes: &[u8], ended: &mut Vec<Ended>) -> Result<usize, Violation> {
        let mut state = lock(&self.state);
        let Some(at) = state.position(id) else {
            return Ok(bytes.len());
        };
        let mut consumed = 0;
        while let Some(header) = Header::peek(&bytes[consumed..]).transpose()? {
            let connection = &mut state.connections[at];
            if header.body_bytes as usize > connection.body_bytes_max(&header)? {
                return Err(Violation::TooLong(header.body_bytes));
            }
            let body = consumed + HEADER_BYTES..consumed + HEADER_BYTES + header.body_bytes as usize;
            let Some(frame) = bytes.get(body.clone()) else {
                break;
            };
            if header.kind == FromWorker::Done as u8 {
                let execution = connection.end(&header)?;
                state.running -= 1;
                // The fuel stands in the body, which is decoded outside the lock; the admission is
                // told by `charge`.
                ended.push(Ended { execution, body: body.clone() });
            } else {
                connection.notice(&header, frame)?;
            }
            consumed = body.end;
        }
        Ok(consumed)
    }

    /// Charges ended executions to their apps and starts what waits.
    pub(super) fn charge(&self, id: u64, costs: impl Iterator<Item = (AppId, u64)>) {
        let mut state = lock(&self.state);
        for (app, fuel) in costs {
            state.admission.finished(app, fuel);
        }
        if let Some(at) = state.position(id) {
            let connection = &mut state.connections[at];
            if connection.executed >= self.recycle_after && !connection.retiring {
                connection.retiring = true;
            }
            if connection.retiring && connection.is_idle() {
                connection.stop();
            }
        }
        state.refill();
        if state.draining {
            self.changed.notify_waiters();
        }
    }

    pub(super) fn status(&self) -> PoolStatus {
        let state = lock(&self.state);
        PoolStatus {
            workers_ready: state.connections.iter().filter(|connection| !connection.retiring).count(),
            executions_running: state.running,
            executions_queued: state.admission.queued(),
            workers_lost: state.workers_lost,
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        lock(&self.state).draining
    }

    pub(super) async fn drain(&self, patience: Duration) {
        drop(self.begin_drain());
        let finished = async {
            loop {
                let changed = self.changed.notified();
                if lock(&self.state).running == 0 {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(patience, finished).await.is_err() {
            tracing::warn!("executions are still running at the end of the drain; they are cut off");
        }
        self.stop_workers();
        let gone = async {
            loop {
                let changed = self.changed.notified();
                if lock(&self.state).connections.is_empty() {
                    return;
                }
                changed.await;
            }
        };
        // A worker that ignores this dies with the parent.
        let _ = tokio::time::timeout(Duration::from_secs(1), gone).await;
    }

    /// Queued jobs are answered by dropping them.
    fn begin_drain(&self) -> Vec<Job> {
        let mut state = lock(&self.state);
        state.draining = true;
        state.admission.take_all()
    }

    fn stop_workers(&self) {
        let mut state = lock(&self.state);
        for connection in &mut state.connections {
            connection.stop();
            connection.wake.notify_one();
        }
    }
}

impl State {
    fn position(&self, id: u64) -> Option<usize> {
        self.connections.iter().position(|connection| connection.id == id)
    }

    /// The worker with the most free slots.
    fn roomiest(&self) -> Option<usize> {
        let mut best = None;
        let mut most = 0;
        for (at, connection) in self.connections.iter().enumerate() {
            if connection.free_slots() > most {
                most = connection.free_slots();
                best = Some(at);
            }
        }
        best
    }

    fn start(&mut self, at: usize, job: Job) {
        self.running += 1;
        self.admission.started(job.app);
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start = Start {
            now: Instant::now(),
            at_us: i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX),
            seed: self.seeds.next(),
        };
        let connection = &mut self.connections[at];
        connection.start(job, start);
        connection.wake.notify_one();
    }

    /// Starts queued jobs while there is room.
    fn refill(&mut self) {
        while let Some(at) = self.roomiest() {
            let Some(job) = self.admission.pop() else {
                return;
            };
            self.start(at, job);
        }
    }
}

/// Seeds for executions, drawn from the system in blocks: a system call for each would cost more
/// than the execution's bookkeeping.
#[derive(Debug)]
struct Seeds {
    block: [u8; 4096],
    used: usize,
}

impl Default for Seeds {
    fn default() -> Self {
        Self { block: [0; 4096], used: 4096 }
    }
}

impl Seeds {
    fn next(&mut self) -> [u8; 16] {
        if self.used == self.block.len() {
            getrandom::fill(&mut self.block).expect("the system has randomness");
            self.used = 0;
        }
        let mut seed = [0; 16];
        seed.copy_from_slice(&self.block[self.used..self.used + 16]);
        self.block[self.used..self.used + 16].fill(0);
        self.used += 16;
        seed
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
