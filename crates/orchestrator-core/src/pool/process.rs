//! Starting worker processes.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use shared::wire::worker::WORKER_ARG;
use tokio::sync::oneshot;

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
    /// `program` is the binary that becomes the worker: usually this one.
    pub(super) fn start(program: PathBuf) -> io::Result<Self> {
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
fn spawn(program: &PathBuf) -> io::Result<Spawned> {
    let (stream, theirs) = UnixStream::pair()?;
    stream.set_nonblocking(true)?;
    let child = Command::new(program)
        .arg0("picloud-worker")
        .arg(WORKER_ARG)
        .arg(std::process::id().to_string())
        .env_clear()
        .current_dir("/")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    Ok(Spawned { child, stream })
}
