//! Keeps the workers alive: a seat for each, a warm spare for the next one that falls.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shared::wire::codec::{self, HEADER_BYTES, Header};
use shared::wire::frame::{FromWorker, HelloParent, HelloWorker, PROTOCOL_VERSION, ToWorker};
use shared::wire::worker::{Layers, WorkerExit};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, mpsc};

use super::conversation::{Over, run_conversation};
use super::outcome;
use super::process::{Spawned, Spawner};
use super::state::Shared;
use super::verify::{self, Isolation, VerifyError};

/// A worker that is not ready by then never will be.
const HELLO_PATIENCE: Duration = Duration::from_secs(20);
/// A worker that lived at least this long did not fail to start.
const HEALTHY: Duration = Duration::from_secs(2);
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Bytes of a worker's standard error that are logged; the rest is read and dropped.
const COMPLAINT_BYTES_MAX: u64 = 16 << 10;

/// How many workers, and what they may have.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// The binary that becomes a worker when started with the worker argument.
    pub program: PathBuf,
    pub workers: usize,
    pub slots_per_worker: u16,
    /// Bytes of compiled script images each worker keeps.
    pub image_cache_bytes: u64,
    /// Executions that wait while all slots are taken; more are refused.
    pub queue_max: usize,
    /// Executions after which a worker is replaced, so that nothing it may have leaked adds up.
    pub recycle_after: u64,
}

impl PoolConfig {
    pub fn new(program: PathBuf, workers: usize, slots_per_worker: u16) -> Self {
        Self {
            program,
            workers: workers.max(1),
            slots_per_worker: slots_per_worker.max(1),
            image_cache_bytes: 8 << 20,
            queue_max: 1024,
            recycle_after: 250_000,
        }
    }
}

/// Why the pool does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("a worker process cannot be started: {0}")]
    Spawn(#[source] std::io::Error),
    #[error("a worker did not say hello: {0}")]
    Hello(#[from] HelloError),
}

/// Why a new worker was given up.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    #[error("it ended or fell silent ({0}); its own words are in the log")]
    Silent(std::io::Error),
    #[error("it said nothing for {} s", HELLO_PATIENCE.as_secs())]
    TooSlow,
    #[error("it speaks another protocol than version {PROTOCOL_VERSION}")]
    Protocol,
    #[error("it is not locked down as it must be: {0}")]
    Isolation(#[from] VerifyError),
}

struct ReadyWorker {
    child: Child,
    stream: UnixStream,
    slots: u16,
    isolation: Isolation,
}

/// What a worker turned out to be that was started only to be looked at.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    pub isolation: Isolation,
    pub slots: u16,
    /// From the decision to start it to its being ready for work.
    pub start_up: Duration,
}

/// Starts a worker, looks at it, and ends it.
pub async fn probe(config: PoolConfig) -> Result<Probe, StartError> {
    let spawner = Spawner::start(config.program.clone()).map_err(StartError::Spawn)?;
    let since = Instant::now();
    let worker = make_ready(&config, &spawner).await?;
    let probe = Probe { isolation: worker.isolation, slots: worker.slots, start_up: since.elapsed() };
    drop(worker.stream);
    reap(worker.child).await;
    Ok(probe)
}

/// Starts the seats; returns when the first worker is ready, with the walls around it, or with the
/// reason why none is.
pub(super) async fn start(config: PoolConfig, shared: Arc<Shared>) -> Result<Isolation, StartError> {
    let spawner = Spawner::start(config.program.clone()).map_err(StartError::Spawn)?;
    let first = make_ready(&config, &spawner).await?;
    let isolation = first.isolation;
    if isolation.missing() != Layers::NONE {
        let missing = isolation.missing();
        tracing::warn!(%missing, "workers are less isolated than they could be; picloud doctor says what helps");
    }
    let (ready, spares) = mpsc::channel(1);
    let spares = Arc::new(Mutex::new(spares));
    let failures = Arc::new(AtomicU32::new(0));
    let mut first = Some(first);
    for _ in 0..config.workers {
        let seat = Seat { shared: shared.clone(), spares: spares.clone(), failures: failures.clone() };
        tokio::spawn(seat.run(first.take()));
    }
    tokio::spawn(keep_spare(config, spawner, ready, failures, shared));
    Ok(isolation)
}

/// Makes a worker whenever the spare has been taken; waits longer after each one that fails.
async fn keep_spare(
    config: PoolConfig,
    spawner: Spawner,
    ready: mpsc::Sender<ReadyWorker>,
    failures: Arc<AtomicU32>,
    shared: Arc<Shared>,
) {
    while let Ok(permit) = ready.reserve().await {
        if shared.is_draining() {
            return;
        }
        let failed = failures.load(Ordering::Relaxed);
        if failed > 0 {
            tokio::time::sleep(BACKOFF_MAX.min(BACKOFF_FIRST * 2_u32.saturating_pow(failed - 1))).await;
        }
        match make_ready(&config, &spawner).await {
            Ok(worker) => permit.send(worker),
            Err(error) => {
                failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "a worker did not start");
            }
        }
    }
}

async fn make_ready(config: &PoolConfig, spawner: &Spawner) -> Result<ReadyWorker, StartError> {
    let Spawned { mut child, stream } = spawner.spawn().await.map_err(StartError::Spawn)?;
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(log_complaints(child.id(), stderr));
    }
    let mut stream = UnixStream::from_std(stream).map_err(StartError::Spawn)?;
    let hello = tokio::time::timeout(HELLO_PATIENCE, greet(&mut stream, config));
    let verified = hello.await.unwrap_or(Err(HelloError::TooSlow)).and_then(|hello| {
        // The process is ours until it is waited for, so this is about no other.
        let isolation = verify::verify(child.id(), hello.layers)?;
        Ok((hello.slots.min(config.slots_per_worker), isolation))
    });
    match verified {
        Ok((slots, isolation)) => Ok(ReadyWorker { child, stream, slots, isolation }),
        Err(error) => {
            reap(child).await;
            Err(error.into())
        }
    }
}

async fn greet(stream: &mut UnixStream, config: &PoolConfig) -> Result<HelloParent, HelloError> {
    let hello = HelloWorker {
        protocol: PROTOCOL_VERSION,
        slots: config.slots_per_worker,
        image_cache_bytes: config.image_cache_bytes,
    };
    let mut frame = Vec::new();
    codec::encode(&mut frame, ToWorker::Hello as u8, 0, 0, &hello);
    stream.write_all(&frame).await.map_err(HelloError::Silent)?;
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await.map_err(HelloError::Silent)?;
    let header = Header::decode(header).map_err(|_| HelloError::Protocol)?;
    if header.kind != FromWorker::Hello as u8 || header.body_bytes > 64 {
        return Err(HelloError::Protocol);
    }
    let mut body = vec![0; header.body_bytes as usize];
    stream.read_exact(&mut body).await.map_err(HelloError::Silent)?;
    let hello: HelloParent = codec::decode_body(&body).map_err(|_| HelloError::Protocol)?;
    if hello.protocol != PROTOCOL_VERSION || hello.slots == 0 {
        return Err(HelloError::Protocol);
    }
    Ok(hello)
}

/// One worker after another.
struct Seat {
    shared: Arc<Shared>,
    spares: Arc<Mutex<mpsc::Receiver<ReadyWorker>>>,
    failures: Arc<AtomicU32>,
}

impl Seat {
    async fn run(self, mut first: Option<ReadyWorker>) {
        loop {
            let worker = match first.take() {
                Some(worker) => Some(worker),
                None => self.spares.lock().await.recv().await,
            };
            let Some(worker) = worker else {
                return;
            };
            self.employ(worker).await;
            if self.shared.is_draining() {
                return;
            }
        }
    }

    async fn employ(&self, worker: ReadyWorker) {
        let since = Instant::now();
        let Some((id, wake)) = self.shared.attach(worker.slots) else {
            drop(worker.stream);
            reap(worker.child).await;
            return;
        };
        let pid = worker.child.id();
        tracing::debug!(worker.pid = pid, "worker ready");
        let over = run_conversation(&self.shared, id, &worker.stream, &wake).await;
        let lost = self.shared.detach(id);
        let lost_count = lost.len();
        for execution in lost {
            outcome::conclude_lost(execution, &*self.shared.records);
        }
        drop(worker.stream);
        let exit = reap(worker.child).await;
        let clean = matches!(over, Over::Closed) && exit.is_some_and(|status| status.success());
        if clean && lost_count == 0 {
            tracing::debug!(worker.pid = pid, "worker ended");
            return;
        }
        if since.elapsed() < HEALTHY {
            self.failures.fetch_add(1, Ordering::Relaxed);
        } else {
            self.failures.store(0, Ordering::Relaxed);
        }
        tracing::warn!(
            worker.pid = pid,
            executions.lost = lost_count,
            exit = describe(exit),
            "worker lost: {over}"
        );
    }
}

/// Kills a worker, which may be dead already, and collects its exit status. The process id cannot
/// have been given to another process: it is ours until it is waited for.
async fn reap(mut child: Child) -> Option<ExitStatus> {
    let waited = tokio::task::spawn_blocking(move || {
        // A worker that was asked to stop is given a moment to do so by itself.
        if !matches!(child.try_wait(), Ok(Some(_))) {
            let _ = child.kill();
        }
        child.wait()
    });
    waited.await.ok()?.ok()
}

fn describe(exit: Option<ExitStatus>) -> String {
    match exit.map(|status| (status.code(), status.signal())) {
        Some((Some(code), _)) => WorkerExit::from_code(code)
            .map_or_else(|| format!("exit code {code}"), |exit| exit.describe().to_owned()),
        Some((None, Some(signal))) => format!("signal {signal}"),
        _ => "unknown".to_owned(),
    }
}

/// Logs what a worker writes to standard error, up to a limit: it may be hostile by then.
async fn log_complaints(pid: u32, stderr: std::process::ChildStderr) {
    let Ok(stderr) = tokio::process::ChildStderr::from_std(stderr) else {
        return;
    };
    let mut lines = BufReader::new(stderr).take(COMPLAINT_BYTES_MAX);
    let mut line = Vec::new();
    while let Ok(1..) = lines.read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line);
        tracing::warn!(worker.pid = pid, "worker says: {:?}", text.trim_end());
        line.clear();
    }
    let _ = tokio::io::copy(lines.get_mut(), &mut tokio::io::sink()).await;
}
