//! Worker processes: starting them by exec, and seeing them end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use rustix::process::{Pid, PidfdFlags, WaitOptions, kill_process, pidfd_open, pidfd_send_signal, waitpid};
use shared::wire::worker::{STRICT_ARG, WITHOUT_WALLS_ARG, WORKER_ARG, WorkerExit};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Interest};
use tokio::time::Instant;

use super::mode::Mode;
use super::spawner::Line;

/// The longest process id, and a line's end.
const PID_LINE_BYTES_MAX: u64 = 16;

/// What is started as a worker.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// The binary that becomes a worker: usually this one.
    pub(super) path: PathBuf,
    pub(super) mode: Mode,
}

impl Program {
    /// fork + exec, with an empty environment and one descriptor that matters. Never fork alone: that
    /// would copy this process's memory, and with it the keys, into every worker.
    pub(super) fn command(&self, role: Option<&str>, socket: OwnedFd) -> Command {
        let mut command = Command::new(&self.path);
        command
            .arg0("picloud-worker")
            .arg(WORKER_ARG)
            .arg(std::process::id().to_string())
            .args(role)
            .args(walls(self.mode))
            .env_clear()
            .current_dir("/")
            .stdin(socket)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }
}

const fn walls(mode: Mode) -> Option<&'static str> {
    match mode {
        Mode::Off => Some(WITHOUT_WALLS_ARG),
        Mode::Strict => Some(STRICT_ARG),
        Mode::Shared | Mode::Pinned => None,
    }
}

/// A started worker and the parent's ends of what it talks through.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) origin: Origin,
    pub(super) stream: UnixStream,
    pub(super) errors: Option<ChildStderr>,
    /// Whose layout it has; none where it has one of its own.
    pub(super) line: Option<Line>,
}

/// Where a worker comes from.
#[derive(Debug)]
pub(super) enum Origin {
    /// A process that was started for it. It may make itself a second time, in a namespace of its own, and says so.
    Started(Child),
    /// A copy of a zygote, which has said which process it is.
    Copied(Unmet),
}

/// A child that nothing holds but its number, which is its own until it has been waited for. Ended when it is dropped;
/// a number that is no child's is let alone, whoever it belongs to.
#[derive(Debug)]
pub(super) struct Unmet(Pid);

impl Unmet {
    pub(super) const fn new(pid: Pid) -> Self {
        Self(pid)
    }
}

impl Drop for Unmet {
    fn drop(&mut self) {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        if waitid(Id::Pid(nix::unistd::Pid::from_raw(self.0.as_raw_pid())), look).is_ok() {
            let _ = kill_process(self.0, rustix::process::Signal::KILL);
            let _ = waitpid(Some(self.0), WaitOptions::empty());
        }
    }
}

impl Origin {
    pub(super) fn id(&self) -> u32 {
        match self {
            Self::Started(child) => child.id(),
            Self::Copied(worker) => worker.0.as_raw_pid().cast_unsigned(),
        }
    }
}

pub(super) fn spawn(program: &Program) -> io::Result<Spawned> {
    let (stream, theirs) = UnixStream::pair()?;
    stream.set_nonblocking(true)?;
    let mut command = program.command(None, theirs.into());
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let errors = child.stderr.take();
    Ok(Spawned { origin: Origin::Started(child), stream, errors, line: None })
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
    pub(super) async fn meet(origin: Origin, deadline: Instant) -> io::Result<Self> {
        match origin {
            Origin::Started(child) => Self::introduced(child, deadline).await,
            Origin::Copied(worker) => {
                let held = Self::held_child(worker.0)?;
                std::mem::forget(worker);
                Ok(held)
            }
        }
    }

    async fn introduced(mut child: Child, deadline: Instant) -> io::Result<Self> {
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
                Self::held_child(pid)
            }
            Err(error) => {
                let _ = started.end().await;
                Err(error)
            }
        }
    }

    fn held_child(pid: Pid) -> io::Result<Self> {
        let worker = Self::hold(pid)?;
        if worker.is_child() { Ok(worker) } else { Err(io::Error::other("its copy is not there")) }
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
