//! The thread that starts workers: as copies of a zygote where there may be one, else each by exec.

use std::io;
use std::os::fd::OwnedFd;
use std::process::ChildStderr;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::process::{Program, Spawned, spawn};
use super::zygote::Zygote;

/// What a zygote is told before there are workers.
#[derive(Debug)]
pub(super) struct Upbringing {
    /// The frame of the parent's hello.
    pub(super) hello: Vec<u8>,
    /// The guest's code as workers run it best.
    pub(super) guest: Option<Arc<OwnedFd>>,
    /// One that is so old is replaced before the next worker is made: its copies have one layout, which somebody may have
    /// learnt.
    pub(super) age_max: Duration,
}

#[derive(Debug)]
enum Request {
    Worker(oneshot::Sender<io::Result<Spawned>>),
    /// The next worker is to have nothing in common with those before.
    Renew,
}

/// Starts workers from one thread that lives as long as this does: the kernel kills a worker when
/// the *thread* that started it ends.
#[derive(Debug, Clone)]
pub(super) struct Spawner {
    requests: mpsc::Sender<Request>,
}

impl Spawner {
    /// `listen` is given each zygote's standard error. Without an `upbringing` there is none.
    pub(super) fn start(
        program: Program,
        upbringing: Option<Upbringing>,
        listen: impl Fn(u32, ChildStderr) + Send + 'static,
    ) -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel();
        let mut maker = Maker { program, upbringing, listen, zygote: None };
        std::thread::Builder::new().name("worker-spawner".to_owned()).spawn(move || {
            while let Ok(request) = inbox.recv() {
                match request {
                    // Nobody would wait for what becomes of it.
                    Request::Worker(reply) if reply.is_closed() => {}
                    // A requester that has gone meanwhile drops the worker, and so ends it.
                    Request::Worker(reply) => drop(reply.send(maker.make())),
                    Request::Renew => maker.zygote = None,
                }
            }
        })?;
        Ok(Self { requests })
    }

    pub(super) async fn spawn(&self) -> io::Result<Spawned> {
        let (reply, spawned) = oneshot::channel();
        let ended = |_| io::Error::other("the spawning thread has ended");
        self.requests.send(Request::Worker(reply)).map_err(|_| ended(()))?;
        spawned.await.map_err(|_| ended(()))?
    }

    /// Has the next worker be a copy of another process than those before.
    pub(super) fn renew(&self) {
        // A thread that has ended makes none.
        let _ = self.requests.send(Request::Renew);
    }
}

struct Maker<Listen> {
    program: Program,
    upbringing: Option<Upbringing>,
    listen: Listen,
    zygote: Option<Zygote>,
}

impl<Listen: Fn(u32, ChildStderr)> Maker<Listen> {
    fn make(&mut self) -> io::Result<Spawned> {
        let Some(upbringing) = &self.upbringing else {
            return spawn(&self.program);
        };
        let now = Instant::now();
        if let Some(zygote) = self.zygote.take_if(|zygote| now < zygote.since() + upbringing.age_max) {
            match zygote.copy() {
                Ok(spawned) => {
                    self.zygote = Some(zygote);
                    return Ok(spawned);
                }
                Err(error) => tracing::warn!(%error, "the process that workers are copies of is replaced"),
            }
        }
        // One that is too old goes before there is another.
        self.zygote = None;
        match self.make_first() {
            Ok(spawned) => Ok(spawned),
            Err(error) => {
                tracing::warn!(%error, "workers are started one by one, which takes longer and more memory");
                (self.upbringing, self.zygote) = (None, None);
                spawn(&self.program)
            }
        }
    }

    /// The first copy of a new zygote.
    fn make_first(&mut self) -> io::Result<Spawned> {
        let (zygote, errors) = Zygote::start(&self.program)?;
        if let Some(errors) = errors {
            (self.listen)(zygote.id(), errors);
        }
        if let Some(upbringing) = &self.upbringing {
            zygote.bring_up(upbringing)?;
        }
        let spawned = zygote.copy()?;
        self.zygote = Some(zygote);
        Ok(spawned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::mode::Mode;
    use crate::pool::process::Origin;

    #[test]
    fn where_there_can_be_no_zygote_workers_are_started_one_by_one() {
        let program = Program { path: "/bin/true".into(), mode: Mode::Pinned };
        let upbringing = Upbringing { hello: vec![7; 100], guest: None, age_max: Duration::from_secs(3600) };
        let mut maker = Maker { program, upbringing: Some(upbringing), listen: |_, _| (), zygote: None };
        for _ in 0..2 {
            let Origin::Started(mut child) = maker.make().unwrap().origin else {
                panic!("it is no copy");
            };
            assert!(child.wait().unwrap().success());
            assert!(maker.upbringing.is_none(), "it is not tried again");
        }
    }
}
