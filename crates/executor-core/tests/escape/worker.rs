//! Starts a hostile worker the way the supervisor starts workers, and tells what became of it.

use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{ChildStderr, Command, Stdio};

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};
use shared::wire::codec::{self, HEADER_BYTES, Header};
use shared::wire::frame::{FromWorker, HelloParent, HelloWorker, PROTOCOL_VERSION, ToWorker};
use shared::wire::worker::{Layers, ZYGOTE_READY};

/// A worker that is ready and about to attack.
pub(crate) struct Hostile {
    /// A child of this process; in a namespace of its own it is not the one that was started.
    pub(crate) pid: Pid,
    stderr: ChildStderr,
    stream: UnixStream,
    /// What it could put up of the layers it was told to.
    pub(crate) held: Layers,
    /// How many executions it has room for.
    pub(crate) slots: u16,
}

impl Hostile {
    pub(crate) fn start(layers: Layers, attack: &str, target: &str) -> Self {
        let layers = layers.names().collect::<Vec<_>>().join(",");
        let parent = std::process::id().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostile-worker"));
        command.args([&parent, &layers, attack, target]).env_clear();
        Self::spawn(command)
    }

    /// The same as a copy of a process that has loaded the guest, as workers are where isolation is not strict.
    pub(crate) fn copy(layers: Layers, attack: &str, target: &str) -> Self {
        let layers = layers.names().collect::<Vec<_>>().join(",");
        let parent = std::process::id().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostile-worker"));
        command.args(["copy", &parent, &layers, attack, target]).env_clear();
        Self::copy_of(command)
    }

    /// A copy of what this starts.
    pub(crate) fn copy_of(mut command: Command) -> Self {
        let (mut control, theirs) = UnixStream::pair().unwrap();
        let started = command.current_dir("/").stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).spawn();
        let mut zygote = started.unwrap();
        // The command holds the other end of the socket, whose closing must be noticed.
        drop(command);
        control.write_all(&hello(1)).unwrap();
        assert_eq!(number(&mut control), ZYGOTE_READY);
        let (stream, theirs) = UnixStream::pair().unwrap();
        let (stderr, their_stderr) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let ends = [theirs.as_raw_fd(), their_stderr.as_raw_fd()];
        let with = [ControlMessage::ScmRights(&ends)];
        let request = [IoSlice::new(&[0])];
        sendmsg::<()>(control.as_raw_fd(), &request, &with, MsgFlags::empty(), None).unwrap();
        let worker = number(&mut control);
        assert!(worker > 0, "errno {}", -worker);
        drop((theirs, their_stderr));
        // It ends when nobody can ask for copies any more, and its copies stay.
        drop(control);
        assert!(zygote.wait().unwrap().success());
        Self::greet(Pid::from_raw(worker), stderr.into(), stream, 1).unwrap()
    }

    /// One that is not hostile at all.
    pub(crate) fn honest() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostile-worker"));
        command.args(["without", "no rule at all", &std::process::id().to_string()]).env_clear();
        Self::spawn(command)
    }

    pub(crate) fn spawn(command: Command) -> Self {
        Self::try_spawn(command).unwrap()
    }

    /// Nothing when the filter killed it before it said hello.
    pub(crate) fn try_spawn(command: Command) -> Option<Self> {
        Self::try_spawn_with(command, 1)
    }

    /// The same, asked to have so many slots.
    #[expect(clippy::zombie_processes, reason = "what is not waited for here is the worker, and `seen` does")]
    pub(crate) fn try_spawn_with(mut command: Command, slots: u16) -> Option<Self> {
        let (stream, theirs) = UnixStream::pair().unwrap();
        let mut child = command
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The command holds the other end of the socket, whose closing must be noticed.
        drop(command);
        let stderr = child.stderr.take().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid: i32 = line.trim().parse().unwrap();
        if pid.unsigned_abs() != child.id() {
            assert!(child.wait().unwrap().success());
        }
        Self::greet(Pid::from_raw(pid), stderr, stream, slots)
    }

    fn greet(pid: Pid, mut stderr: ChildStderr, mut stream: UnixStream, slots: u16) -> Option<Self> {
        stream.write_all(&hello(slots)).unwrap();
        let mut header = [0; HEADER_BYTES];
        if let Err(error) = stream.read_exact(&mut header) {
            let mut words = String::new();
            stderr.read_to_string(&mut words).unwrap();
            let status = waitpid(pid, None).unwrap();
            assert!(
                matches!(status, WaitStatus::Signaled(_, Signal::SIGSYS, _)),
                "no hello ({error}): {words}"
            );
            return None;
        }
        let header = Header::decode(header).unwrap();
        assert_eq!(header.kind, FromWorker::Hello as u8);
        let mut body = vec![0; header.body_bytes as usize];
        stream.read_exact(&mut body).unwrap();
        let hello: HelloParent = codec::decode_body(&body).unwrap();
        Some(Self { pid, stderr, stream, held: hello.layers, slots: hello.slots })
    }

    /// Gives it frames, and takes in what it answers until it ends or `answers` executions have.
    pub(crate) fn work(&mut self, frames: &[u8], answers: usize) {
        // A worker that was killed meanwhile reads no more.
        if self.stream.write_all(frames).is_err() {
            return;
        }
        for _ in 0..answers {
            if self.answer().is_none() {
                return;
            }
        }
    }

    /// The body of the next frame that it sends; nothing when it has ended.
    pub(crate) fn answer(&mut self) -> Option<Vec<u8>> {
        let mut header = [0; HEADER_BYTES];
        self.stream.read_exact(&mut header).ok()?;
        let mut body = vec![0; Header::decode(header).unwrap().body_bytes as usize];
        self.stream.read_exact(&mut body).ok()?;
        Some(body)
    }

    /// Waits until the worker says that it did something, without ending.
    pub(crate) fn wait_for_word(&mut self) -> String {
        let mut word = Vec::new();
        while !word.ends_with(b"\n") {
            let mut byte = [0];
            assert_eq!(self.stderr.read(&mut byte).unwrap(), 1, "it ended after {word:?}");
            word.push(byte[0]);
        }
        String::from_utf8(word).unwrap().trim().to_owned()
    }

    /// How it ended, once it has: by which signal, or with which code.
    pub(crate) fn end(self) -> String {
        self.end_and_words().0
    }

    /// The same, and what it said before.
    pub(crate) fn end_and_words(mut self) -> (String, String) {
        let mut words = Vec::new();
        self.stderr.read_to_end(&mut words).unwrap();
        (end_of(self.pid), String::from_utf8_lossy(&words).into_owned())
    }

    /// How it ends when nobody reads what it says.
    pub(crate) fn end_unheard(self) -> String {
        let Self { pid, stderr, stream: _open, .. } = self;
        drop(stderr);
        end_of(pid)
    }

    pub(crate) fn kill(&self) {
        kill(self.pid, Signal::SIGKILL).unwrap();
    }

    /// How it ended: the signal that ended it, or what the attack came to.
    pub(crate) fn seen(mut self) -> String {
        let mut words = Vec::new();
        self.stderr.read_to_end(&mut words).unwrap();
        let words = String::from_utf8_lossy(&words);
        let status = waitpid(self.pid, None).unwrap();
        if let WaitStatus::Signaled(_, signal, _) = status {
            return signal.to_string();
        }
        let seen = words.lines().rev().find_map(|line| line.strip_prefix("seen "));
        seen.map_or_else(|| format!("{status:?}, {words}"), ToOwned::to_owned)
    }
}

fn hello(slots: u16) -> Vec<u8> {
    let body = HelloWorker { protocol: PROTOCOL_VERSION, slots, image_cache_bytes: 1 << 20, code_at: 0 };
    let mut hello = Vec::new();
    codec::encode(&mut hello, ToWorker::Hello as u8, 0, 0, &body);
    hello
}

/// What a zygote answers.
fn number(control: &mut UnixStream) -> i32 {
    let mut number = [0; size_of::<i32>()];
    control.read_exact(&mut number).unwrap();
    i32::from_ne_bytes(number)
}

/// By which signal a process ends, or with which code.
fn end_of(pid: Pid) -> String {
    match waitpid(pid, None).unwrap() {
        WaitStatus::Signaled(_, signal, _) => signal.to_string(),
        WaitStatus::Exited(_, code) => format!("Exited({code})"),
        other => format!("{other:?}"),
    }
}
