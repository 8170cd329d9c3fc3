//! From a spawned process to a worker that may be given work: it has said hello, and what it says
//! of itself is true.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::ChildStderr;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use shared::wire::codec::{self, HEADER_BYTES, Header};
use shared::wire::frame::{FromWorker, HelloParent, HelloWorker, PROTOCOL_VERSION, ToWorker};
use shared::wire::process_limits::data_bytes;
use shared::wire::worker::Layers;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::runtime::Handle;

use super::complaints::Complaints;
use super::groups::{Controllers, Delegated, Group, Groups, Ungrouped};
use super::layout;
use super::mode::Mode;
use super::process::{Origin, Process, Program, Spawned};
use super::socket::Socket;
use super::spawner::{Line, Spawner, Upbringing};
use super::verify::{self, Isolation, VerifyError};

/// A worker that is not ready by then never will be.
const HELLO_PATIENCE: Duration = Duration::from_secs(20);

/// Executions after which a worker is replaced in strict isolation.
const STRICT_EXECUTIONS: u64 = 100;
/// Somebody who got into a worker unseen has it for so long.
const RECYCLE_AGE: Duration = Duration::from_hours(1);

/// How many workers, and what they may have.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// The binary that becomes a worker when started with the worker argument.
    pub program: PathBuf,
    pub mode: Mode,
    /// Layers without which no worker gets work.
    pub needs: Layers,
    /// Workers that are always there.
    pub workers: usize,
    /// Most workers while tenants are kept apart, so that each who is active keeps one.
    pub tenant_workers: usize,
    pub slots_per_worker: u16,
    /// Executions of one app at a time, up to [`Mode::app_slots`]. Where none is given, half of that, so that others find a
    /// slot; in strict isolation all, as others have workers of their own.
    pub app_slots_max: Option<usize>,
    /// Bytes of compiled script images each worker keeps.
    pub image_cache_bytes: u64,
    /// Executions that wait while all slots are taken; more are refused.
    pub queue_max: usize,
    /// Executions after which a worker is replaced, so that nothing it may have leaked adds up.
    pub recycle_after: u64,
    /// A worker that is so old is replaced too, when an execution ends.
    pub recycle_age: Duration,
    /// Memory that a worker can have, in bytes; its executions start only while their limits come to less, and all workers'
    /// while these come to less than one and a half times as much. Without a number they start as slots are free.
    pub worker_memory_bytes: Option<u64>,
    /// Most memory of a worker whatever it does, and two thirds of what all have together, where the machine has given
    /// PiCloud a control group to divide up; without a number it is left alone.
    pub group_memory_bytes: Option<u64>,
    /// The guest's code as workers run it best, a sealed file; without it they run their own copy.
    pub guest: Option<Arc<OwnedFd>>,
    /// Whether workers are copies of a process that has loaded the guest. The program must know how to be one. In strict
    /// isolation there is none: workers share no memory then, and no layout.
    pub has_zygote: bool,
}

impl PoolConfig {
    pub fn new(program: PathBuf, workers: usize, slots_per_worker: u16) -> Self {
        Self {
            program,
            mode: Mode::default(),
            needs: Mode::default().needs(),
            workers: workers.max(1),
            tenant_workers: workers.max(1) + 1,
            slots_per_worker: slots_per_worker.max(1),
            app_slots_max: None,
            image_cache_bytes: 8 << 20,
            queue_max: 1024,
            recycle_after: 250_000,
            recycle_age: RECYCLE_AGE,
            worker_memory_bytes: None,
            group_memory_bytes: None,
            guest: None,
            has_zygote: false,
        }
    }

    /// Sets the mode, with what it implies: in strict isolation one execution at a time, and a new
    /// process after a hundred.
    pub fn isolated(self, mode: Mode) -> Self {
        let config = Self { mode, needs: mode.needs(), ..self };
        match mode {
            Mode::Strict => Self { slots_per_worker: 1, recycle_after: STRICT_EXECUTIONS, ..config },
            Mode::Shared | Mode::Pinned | Mode::Off => config,
        }
    }

    /// Executions of one app at a time.
    pub(super) fn app_slots(&self) -> usize {
        let most = self.mode.app_slots(self.workers, self.slots_per_worker);
        let usual = match self.mode {
            Mode::Strict => most,
            Mode::Shared | Mode::Pinned | Mode::Off => most / 2,
        };
        self.app_slots_max.unwrap_or(usual).clamp(1, most.max(1))
    }

    pub(super) fn workers_max(&self) -> usize {
        match self.mode {
            // One more, for scripts that are watched.
            Mode::Shared | Mode::Off => self.workers + 1,
            // One more, or one tenant could have them all.
            Mode::Pinned | Mode::Strict => self.tenant_workers.max(self.workers + 1),
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
    #[error("it lacks {0}, which the isolation mode needs and workers had when the server started")]
    Weak(Layers),
    #[error("it is in no control group of its own, which strict isolation needs; the log says why")]
    Ungrouped,
}

/// A worker that waits for its first work.
#[derive(Debug)]
pub(super) struct ReadyWorker {
    pub(super) process: Process,
    pub(super) socket: Socket,
    pub(super) slots: u16,
    pub(super) isolation: Isolation,
    /// Gone after the process.
    pub(super) group: Option<Group>,
    /// Whose layout it has; none where it has one of its own.
    pub(super) line: Option<Line>,
}

/// Makes workers.
#[derive(Debug, Clone)]
pub(super) struct Recruiter {
    config: PoolConfig,
    spawner: Spawner,
    complaints: Arc<Complaints>,
    groups: Result<Arc<Groups>, Ungrouped>,
    /// Where workers are to have the guest's code; 0: anywhere.
    code_at: u64,
}

impl Recruiter {
    pub(super) fn new(config: PoolConfig) -> Result<Self, StartError> {
        let program = Program { path: config.program.clone(), mode: config.mode };
        let groups = config.group_memory_bytes.ok_or(Ungrouped::Unwanted).and_then(divide).map(Arc::new);
        // Strictly kept apart, they do not have even that in common.
        let code_at = if config.mode == Mode::Strict { 0 } else { layout::draw() };
        let complaints = Arc::<Complaints>::default();
        let listener = (complaints.clone(), Handle::current());
        let spawner = Spawner::start(program, upbringing(&config, code_at), move |pid, errors| {
            let (complaints, runtime) = &listener;
            runtime.spawn(listen(complaints.clone(), pid, errors));
        });
        let spawner = spawner.map_err(StartError::Spawn)?;
        Ok(Self { config, spawner, complaints, groups, code_at })
    }

    /// What limits the workers' groups, or why they have none.
    pub(super) fn grouping(&self) -> Result<Controllers, Ungrouped> {
        self.groups.as_ref().map(|groups| groups.controllers().clone()).map_err(|why| *why)
    }

    /// Has the next worker have another layout than one that was lost.
    pub(super) fn renew(&self, line: Option<Line>) {
        if let Some(line) = line {
            self.spawner.renew(line);
        }
    }

    /// Whether its workers are copies of a zygote.
    pub(super) fn has_zygote(&self) -> bool {
        upbringing(&self.config, self.code_at).is_some()
    }

    /// Whether a worker has a layout that no other is to be given work with.
    pub(super) fn is_outdated(&self, worker: &ReadyWorker) -> bool {
        worker.line.is_some_and(|line| self.spawner.is_over(line))
    }

    /// A worker that has what the mode needs. The first one is let through without it, for whoever starts the pool to
    /// say all that is missing.
    pub(super) async fn make_fit(&self) -> Result<ReadyWorker, StartError> {
        let worker = self.make_ready().await?;
        let lacking = worker.isolation.lacking(self.config.needs);
        if lacking == Layers::NONE {
            return Ok(worker);
        }
        drop(worker.socket);
        worker.process.end().await;
        Err(HelloError::Weak(lacking).into())
    }

    pub(super) async fn make_ready(&self) -> Result<ReadyWorker, StartError> {
        let Spawned { origin, stream, errors, line } =
            self.spawner.spawn().await.map_err(StartError::Spawn)?;
        if let Some(errors) = errors {
            tokio::spawn(listen(self.complaints.clone(), origin.id(), errors));
        }
        let is_copy = matches!(origin, Origin::Copied(_));
        let mut stream = UnixStream::from_std(stream).map_err(StartError::Spawn)?;
        let deadline = tokio::time::Instant::now() + HELLO_PATIENCE;
        let process = Process::meet(origin, deadline).await.map_err(HelloError::Silent)?;
        // Before it hears of anything, and long before it runs a stranger's script.
        let group = self.groups.as_deref().ok().and_then(|groups| enclose(groups, process.id()));
        let is_outside = self.groups.is_ok() && group.is_none();
        let hello =
            tokio::time::timeout_at(deadline, greet(&mut stream, &self.config, self.code_at, is_copy)).await;
        let verified = hello.unwrap_or(Err(HelloError::TooSlow)).and_then(|hello| {
            // The process is ours until it is waited for, so this is about no other.
            let slots = hello.slots.min(self.config.slots_per_worker);
            let memory = data_bytes(slots, self.config.image_cache_bytes);
            let isolation = verify::verify(process.id(), hello.layers, self.config.mode, memory)?;
            if is_outside && self.config.mode == Mode::Strict {
                return Err(HelloError::Ungrouped);
            }
            let socket = stream.into_std().and_then(Socket::new).map_err(HelloError::Silent)?;
            Ok((socket, slots, isolation))
        });
        match verified {
            Ok((socket, slots, isolation)) => {
                Ok(ReadyWorker { process, socket, slots, isolation, group, line })
            }
            Err(error) => {
                process.end().await;
                Err(error.into())
            }
        }
    }
}

/// What the process is told that workers are copies of, where there is one.
fn upbringing(config: &PoolConfig, code_at: u64) -> Option<Upbringing> {
    let is_wanted = config.has_zygote && config.mode != Mode::Strict;
    is_wanted.then(|| Upbringing {
        hello: hello(config, code_at),
        guest: config.guest.clone(),
        age_max: config.recycle_age,
    })
}

/// The groups that workers will be in; none where the machine gives none, as the doctor says.
fn divide(memory_bytes: u64) -> Result<Groups, Ungrouped> {
    let delegated = Delegated::look().inspect_err(|why| match why {
        Ungrouped::None | Ungrouped::Root => {
            tracing::debug!("workers are in no control groups of their own: {why}");
        }
        _ => tracing::info!("workers are in no control groups of their own: {why}"),
    })?;
    Groups::make(delegated, memory_bytes).map_err(|error| {
        tracing::warn!(%error, "workers are in no control groups of their own");
        Ungrouped::Refused
    })
}

/// The group of one worker. Without it the worker's own limits hold, so it may work all the same unless
/// isolation is strict.
fn enclose(groups: &Groups, pid: u32) -> Option<Group> {
    match groups.add(pid) {
        Ok(group) if group.holds(pid) => Some(group),
        Ok(_) => {
            tracing::warn!(worker.pid = pid, "the kernel did not put a worker into its control group");
            None
        }
        Err(error) => {
            tracing::warn!(%error, worker.pid = pid, "a worker is in no control group of its own");
            None
        }
    }
}

/// The first frame to a worker, or to a zygote.
fn hello(config: &PoolConfig, code_at: u64) -> Vec<u8> {
    let hello = HelloWorker {
        protocol: PROTOCOL_VERSION,
        slots: config.slots_per_worker,
        image_cache_bytes: config.image_cache_bytes,
        code_at,
    };
    let mut frame = Vec::new();
    codec::encode(&mut frame, ToWorker::Hello as u8, 0, 0, &hello);
    frame
}

async fn listen(complaints: Arc<Complaints>, pid: u32, errors: ChildStderr) {
    complaints.log(pid, errors).await;
}

async fn greet(
    stream: &mut UnixStream,
    config: &PoolConfig,
    code_at: u64,
    is_copy: bool,
) -> Result<HelloParent, HelloError> {
    // A copy of a zygote has loaded it already.
    let guest = config.guest.as_deref().filter(|_| !is_copy);
    send_first(stream, &hello(config, code_at), guest).await.map_err(HelloError::Silent)?;
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

/// Sends a frame that is shorter than a socket's buffer, and a descriptor with it.
async fn send_first(stream: &UnixStream, frame: &[u8], descriptor: Option<&OwnedFd>) -> io::Result<()> {
    let descriptor = descriptor.map(|descriptor| [descriptor.as_raw_fd()]);
    let with = descriptor.as_ref().map(|descriptor| ControlMessage::ScmRights(descriptor));
    let send = || {
        let socket = stream.as_raw_fd();
        Ok(sendmsg::<()>(socket, &[IoSlice::new(frame)], with.as_slice(), MsgFlags::MSG_NOSIGNAL, None)?)
    };
    loop {
        stream.writable().await?;
        match stream.try_io(Interest::WRITABLE, send) {
            Ok(sent) if sent == frame.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_app_has_half_of_the_slots_or_in_strict_isolation_its_share_of_the_workers() {
        for (mode, given, expected) in [
            (Mode::Pinned, None, 16),
            (Mode::Pinned, Some(32), 32),
            (Mode::Strict, None, 2),
            (Mode::Strict, Some(1), 1),
            (Mode::Strict, Some(32), 2),
        ] {
            let config = PoolConfig::new("/".into(), 2, 16).isolated(mode);
            let config = PoolConfig { app_slots_max: given, tenant_workers: 64, ..config };
            assert_eq!(config.app_slots(), expected, "{mode} {given:?}");
        }
    }

    #[test]
    fn attack_strictly_isolated_workers_share_no_memory_and_no_layout() {
        for (mode, has_zygote) in
            [(Mode::Strict, false), (Mode::Pinned, true), (Mode::Shared, true), (Mode::Off, true)]
        {
            let config = PoolConfig { has_zygote: true, ..PoolConfig::new("/".into(), 2, 16).isolated(mode) };
            assert_eq!(upbringing(&config, 0).is_some(), has_zygote, "{mode:?}");
        }
    }
}
