//! The process that workers are copies of, as the parent sees it.
//!
//! It is started by exec, before any worker and with nothing of this process but a socket; it loads the guest, and is never
//! given anything else. A copy of it starts sooner than a program does, and shares its memory (ADR 38).

use std::io::{self, ErrorKind, IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStderr};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::pipe2;
use rustix::process::Pid;
use shared::wire::worker::{ZYGOTE_ARG, ZYGOTE_READY};

use super::process::{Origin, Program, Spawned, Unmet};
use super::spawner::Upbringing;

/// One that has not loaded by then never will.
const UPBRINGING_PATIENCE: Duration = Duration::from_secs(20);
/// One that has not copied itself by then is stuck: it takes a millisecond.
const COPY_PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    /// It goes on, and may be luckier next time.
    #[error("the machine gives no process for a worker, or no descriptors: {0}")]
    Refused(#[source] io::Error),
    /// It is of no use any more.
    #[error(transparent)]
    Lost(io::Error),
}

/// Ended when it is dropped; its copies stay, but for one whose number it has sent and nobody has read.
#[derive(Debug)]
pub(super) struct Zygote {
    process: Child,
    control: UnixStream,
    since: Instant,
}

impl Zygote {
    pub(super) fn start(program: &Program) -> io::Result<(Self, Option<ChildStderr>)> {
        let (control, theirs) = UnixStream::pair()?;
        let mut process = program.command(Some(ZYGOTE_ARG), theirs.into()).spawn()?;
        let errors = process.stderr.take();
        Ok((Self { process, control, since: Instant::now() }, errors))
    }

    pub(super) const fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Has it load the guest; returns when it has.
    pub(super) fn bring_up(&self, upbringing: &Upbringing) -> io::Result<()> {
        let guest = upbringing.guest.as_ref().map(|guest| guest.as_fd());
        self.control.set_read_timeout(Some(UPBRINGING_PATIENCE))?;
        self.send(&upbringing.hello, guest.as_slice())?;
        match self.answer()? {
            ZYGOTE_READY => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// A worker that is a copy of it, and a child of this process.
    pub(super) fn copy(&self) -> Result<Spawned, CopyError> {
        let (stream, theirs) = connected().map_err(CopyError::Refused)?;
        let (errors, their_errors) =
            pipe2(OFlag::O_CLOEXEC).map_err(|errno| CopyError::Refused(errno.into()))?;
        let answer = self.ask(&[theirs.as_fd(), their_errors.as_fd()]).map_err(CopyError::Lost)?;
        if answer < 0 {
            return Err(CopyError::Refused(Errno::from_raw(-answer).into()));
        }
        let worker = Pid::from_raw(answer).map(Unmet::new);
        let worker = worker.ok_or_else(|| CopyError::Lost(unexpected(answer)))?;
        Ok(Spawned { origin: Origin::Copied(worker), stream, errors: Some(errors.into()), line: None })
    }

    /// What it answers to the request for a copy with these descriptors.
    fn ask(&self, descriptors: &[BorrowedFd<'_>]) -> io::Result<i32> {
        self.control.set_read_timeout(Some(COPY_PATIENCE))?;
        self.send(&[0], descriptors)?;
        self.answer()
    }

    fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let numbers: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let with = (!numbers.is_empty()).then_some(ControlMessage::ScmRights(&numbers));
        let socket = self.control.as_raw_fd();
        let flags = MsgFlags::MSG_NOSIGNAL;
        match sendmsg::<()>(socket, &[IoSlice::new(bytes)], with.as_slice(), flags, None) {
            Ok(sent) if sent == bytes.len() => Ok(()),
            Ok(_) => Err(ErrorKind::WriteZero.into()),
            Err(errno) => Err(silent(errno)),
        }
    }

    fn answer(&self) -> io::Result<i32> {
        let mut number = [0; size_of::<i32>()];
        (&self.control).read_exact(&mut number).map_err(silent)?;
        Ok(i32::from_ne_bytes(number))
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // A copy that nobody was told of in time would never be waited for.
        let _ = self.control.set_nonblocking(true);
        let untold = self.answer().ok().filter(|pid| *pid > 0);
        drop(untold.and_then(Pid::from_raw).map(Unmet::new));
    }
}

/// A worker's socket and the parent's end of it, which does not block.
fn connected() -> io::Result<(UnixStream, UnixStream)> {
    let (stream, theirs) = UnixStream::pair()?;
    stream.set_nonblocking(true)?;
    Ok((stream, theirs))
}

fn silent(error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    io::Error::new(
        error.kind(),
        format!("the process that workers are copies of ended or fell silent: {error}"),
    )
}

fn unexpected(answer: i32) -> io::Error {
    io::Error::other(format!("the process that workers are copies of answered {answer}"))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    use nix::sys::signal::{Signal, kill};

    use super::*;
    use crate::pool::mode::Mode;

    fn upbringing() -> Upbringing {
        Upbringing { hello: vec![7; 100], guest: None, age_max: Duration::from_secs(3600) }
    }

    #[test]
    fn one_that_ends_at_once_is_an_error_and_leaves_no_process() {
        let program = Program { path: "/bin/true".into(), mode: Mode::Pinned };
        let (zygote, _errors) = Zygote::start(&program).unwrap();
        assert!(zygote.bring_up(&upbringing()).is_err());
        let pid = zygote.id();
        drop(zygote);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    /// One that has answered so.
    pub(in crate::pool) fn answering(number: i32) -> Zygote {
        let (control, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&number.to_ne_bytes()).unwrap();
        // Its end stays open, as long as the process would run.
        std::mem::forget(theirs);
        let process = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        Zygote { process, control, since: Instant::now() }
    }

    #[test]
    fn one_that_says_something_else_than_that_it_is_ready_is_not_used() {
        assert!(answering(ZYGOTE_READY).bring_up(&upbringing()).is_ok());
        assert!(answering(7).bring_up(&upbringing()).unwrap_err().to_string().contains("answered 7"));
    }

    #[test]
    fn what_keeps_it_from_copying_itself_is_told_by_its_number() {
        let Err(CopyError::Refused(error)) = answering(-(Errno::EAGAIN as i32)).copy() else {
            panic!("it goes on");
        };
        assert_eq!(error.raw_os_error(), Some(Errno::EAGAIN as i32));
        assert!(matches!(answering(0).copy(), Err(CopyError::Lost(_))));
    }

    #[test]
    fn a_copy_that_it_had_no_time_to_tell_of_is_ended_and_waited_for() {
        let copy = Command::new("/bin/sleep").arg("60").spawn().unwrap().id();
        drop(answering(copy.cast_signed()));
        assert!(!std::path::Path::new(&format!("/proc/{copy}")).exists());
    }

    #[test]
    fn attack_a_number_that_is_no_childs_ends_nobody() {
        let script = "sleep 60 & echo $!; wait";
        let mut shell = Command::new("/bin/sh");
        let mut shell = shell.args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let grandchild: i32 = line.trim().parse().unwrap();
        drop(answering(grandchild));
        let still_there = kill(nix::unistd::Pid::from_raw(grandchild), None);
        kill(nix::unistd::Pid::from_raw(grandchild), Signal::SIGKILL).unwrap();
        assert!(still_there.is_ok() && shell.wait().is_ok());
    }
}
