//! Worker processes: starting them, and seeing them end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;

use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use shared::wire::worker::{STRICT_ARG, WITHOUT_WALLS_ARG, WORKER_ARG, WorkerExit};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Interest};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::mode::Mode;

/// The longest process id, and a line's end.
const PID_LINE_BYTES_MAX: u64 = 16;

/// What is started as a worker.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// The binary that becomes a worker: usually this one.
    pub(super) path: PathBuf,
    pub(super) mode: Mode,
}

/// A started worker and the parent's end of its socket.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) child: Child,
    pub(super) stream: UnixStream,
}

/// Starts workers from one thread that lives as long as this does: the kernel kills a worker when
/// the *thread* that started it ends.
#[derive(Debug, Clone)]
pub(super) struct Spawner {
    requests: mpsc::Sender<oneshot::Sender<io::Result<Spawned>>>,
}

impl Spawner {
    pub(super) fn start(program: Program) -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel::<oneshot::Sender<io::Result<Spawned>>>();
        std::thread::Builder::new().name("worker-spawner".to_owned()).spawn(move || {
            while let Ok(reply) = inbox.recv() {
                // A requester that has gone drops the worker's socket, and so ends the worker.
                let _ = reply.send(spawn(&program));
            }
        })?;
        Ok(Self { requests })
    }

    pub(super) async fn spawn(&self) -> io::Result<Spawned> {
        let (reply, spawned) = oneshot::channel();
        self.requests.send(reply).map_err(|_| io::Error::other("the spawning thread has ended"))?;
        spawned.await.map_err(|_| io::Error::other("the spawning thread has ended"))?
    }
}

/// fork + exec, with an empty environment and one descriptor that matters. Never fork alone: that
/// would copy this process's memory, and with it the keys, into every worker.
fn spawn(program: &Program) -> io::Result<Spawned> {
    let (stream, theirs) = UnixStream::pair()?;
    stream.set_nonblocking(true)?;
    let child = Command::new(&program.path)
        .arg0("picloud-worker")
        .arg(WORKER_ARG)
        .arg(std::process::id().to_string())
        .args(walls(program.mode))
        .env_clear()
        .current_dir("/")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    Ok(Spawned { child, stream })
}

const fn walls(mode: Mode) -> Option<&'static str> {
    match mode {
        Mode::Off => Some(WITHOUT_WALLS_ARG),
        Mode::Strict => Some(STRICT_ARG),
        Mode::Shared | Mode::Pinned => None,
    }
}

/// A worker, held by a descriptor that means this process and never another that got its number.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    /// Readable as soon as the process has ended (Linux 5.3 and later).
    handle: AsyncFd<OwnedFd>,
}

impl Process {
    /// Learns which process is the worker: the one that was started, or a copy of it that was born
    /// in a namespace of its own. No stranger's script has run in either.
    pub(super) async fn meet(mut child: Child, deadline: Instant) -> io::Result<Self> {
        let stdout = child.stdout.take();
        let started = Self::hold(Pid::from_child(&child)).inspect_err(|_| {
            // Nothing else holds it, and nobody has waited for it: the number is still its own.
            let _ = child.kill();
        })?;
        let introduced = tokio::time::timeout_at(deadline, introduction(stdout)).await;
        match introduced.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(pid) if pid == started.pid => Ok(started),
            Ok(pid) => {
                // It has ended, or is about to.
                let _ = started.wait().await;
                let worker = Self::hold(pid)?;
                if worker.is_child() { Ok(worker) } else { Err(io::Error::other("its copy is not there")) }
            }
            Err(error) => {
                let _ = started.end().await;
                Err(error)
            }
        }
    }

    fn hold(pid: Pid) -> io::Result<Self> {
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        #[expect(
            deprecated,
            reason = "what came after it is unsafe, for types that give another descriptor each time; OwnedFd does not"
        )]
        let handle = AsyncFd::with_interest(handle, Interest::READABLE)?;
        Ok(Self { pid, handle })
    }

    pub(super) fn id(&self) -> u32 {
        self.pid.as_raw_pid().cast_unsigned()
    }

    fn is_child(&self) -> bool {
        self.look(WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT).is_ok()
    }

    /// Whether it has ended, which is still to be collected.
    pub(super) fn has_ended(&self) -> bool {
        let seen = self.look(WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT);
        seen != Ok(WaitStatus::StillAlive)
    }

    fn look(&self, flags: WaitPidFlag) -> nix::Result<WaitStatus> {
        waitid(Id::PIDFd(self.handle.as_fd()), flags)
    }

    /// Kills it unless it has ended already, and collects how it ended.
    pub(super) async fn end(self) -> Exit {
        let _ = pidfd_send_signal(&self.handle, rustix::process::Signal::KILL);
        self.wait().await
    }

    async fn wait(self) -> Exit {
        if self.handle.readable().await.is_err() {
            return Exit::Unknown;
        }
        match self.look(WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            Ok(WaitStatus::Exited(_, code)) => Exit::Code(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => Exit::Signal(signal),
            _ => Exit::Unknown,
        }
    }
}

async fn introduction(stdout: Option<ChildStdout>) -> io::Result<Pid> {
    let missing = || io::Error::other("it did not say which process it is");
    let stdout = tokio::process::ChildStdout::from_std(stdout.ok_or_else(missing)?)?;
    let mut line = String::new();
    BufReader::new(stdout.take(PID_LINE_BYTES_MAX)).read_line(&mut line).await?;
    line.trim_end().parse().ok().filter(|pid| *pid > 1).and_then(Pid::from_raw).ok_or_else(missing)
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Code(i32),
    Signal(Signal),
    Unknown,
}

impl Exit {
    pub(super) fn is_clean(self) -> bool {
        self == Self::Code(WorkerExit::Clean as i32)
    }

    /// By somebody at a terminal, or by the kernel for want of memory, and also by this process: the
    /// next worker need not end the same way.
    pub(super) fn is_from_outside(self) -> bool {
        matches!(self, Self::Signal(Signal::SIGKILL | Signal::SIGTERM))
    }

    pub(super) fn describe(self) -> String {
        match self {
            Self::Code(code) => WorkerExit::from_code(code)
                .map_or_else(|| format!("exit code {code}"), |exit| exit.describe().to_owned()),
            Self::Signal(signal) => signal.to_string(),
            Self::Unknown => "unknown".to_owned(),
        }
    }
}
