//! The thread that starts workers: as copies of a zygote where there may be one, else each by exec.

use std::io;
use std::os::fd::OwnedFd;
use std::process::ChildStderr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::process::{Program, Spawned, spawn};
use super::zygote::{CopyError, Zygote};

/// How long workers are started by exec after a zygote came to nothing, which may pass: the machine may have lacked
/// memory or processes. Twice as long each time, as a program that cannot be one takes time to find out.
const RETRY_FIRST: Duration = Duration::from_mins(1);
const RETRY_MAX: Duration = Duration::from_hours(1);

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

/// The copies of one zygote, which have one layout. Whoever made one of them crash has learnt of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line(pub(super) u64);

type Request = oneshot::Sender<io::Result<Spawned>>;

/// Starts workers from one thread that lives as long as this does: the kernel kills a worker when
/// the *thread* that started it ends.
#[derive(Debug, Clone)]
pub(super) struct Spawner {
    requests: mpsc::Sender<Request>,
    line: Arc<AtomicU64>,
}

impl Spawner {
    /// `listen` is given each zygote's standard error. Without an `upbringing` there is none.
    pub(super) fn start(
        program: Program,
        upbringing: Option<Upbringing>,
        listen: impl Fn(u32, ChildStderr) + Send + 'static,
    ) -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel::<Request>();
        let mut maker = Maker::new(program, upbringing, listen);
        let line = maker.line.clone();
        std::thread::Builder::new().name("worker-spawner".to_owned()).spawn(move || {
            while let Ok(reply) = inbox.recv() {
                // Nobody would wait for what becomes of it.
                if !reply.is_closed() {
                    // A requester that has gone meanwhile drops the worker, and so ends it.
                    drop(reply.send(maker.make()));
                }
            }
        })?;
        Ok(Self { requests, line })
    }

    pub(super) async fn spawn(&self) -> io::Result<Spawned> {
        let (reply, spawned) = oneshot::channel();
        let ended = |_| io::Error::other("the spawning thread has ended");
        self.requests.send(reply).map_err(|_| ended(()))?;
        spawned.await.map_err(|_| ended(()))?
    }

    /// Ends a line: the next worker is a copy of another process, and those that are being made get no work.
    pub(super) fn renew(&self, Line(line): Line) {
        // One that is over already has a successor, of whom nobody has learnt anything.
        let _ = self.line.compare_exchange(line, line + 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether no more workers of a line are to be given work.
    pub(super) fn is_over(&self, line: Line) -> bool {
        line.0 != self.line.load(Ordering::Relaxed)
    }
}

struct Maker<Listen> {
    program: Program,
    upbringing: Option<Upbringing>,
    listen: Listen,
    zygote: Option<(Zygote, Line)>,
    /// The number of the line that workers are to be of.
    line: Arc<AtomicU64>,
    /// Zygotes in a row that came to nothing, and when to try another.
    failures: u32,
    retry_at: Instant,
}

impl<Listen: Fn(u32, ChildStderr)> Maker<Listen> {
    fn new(program: Program, upbringing: Option<Upbringing>, listen: Listen) -> Self {
        let retry_at = Instant::now();
        Self { program, upbringing, listen, zygote: None, line: Arc::default(), failures: 0, retry_at }
    }

    fn make(&mut self) -> io::Result<Spawned> {
        let (Some(upbringing), now) = (&self.upbringing, Instant::now()) else {
            return spawn(&self.program);
        };
        let line = Line(self.line.load(Ordering::Relaxed));
        let is_good =
            |(zygote, of): &(Zygote, Line)| *of == line && now < zygote.since() + upbringing.age_max;
        // One that is of no use goes before there is another.
        self.zygote = self.zygote.take().filter(is_good);
        if let Some((zygote, _)) = &self.zygote {
            match zygote.copy() {
                Ok(spawned) => return Ok(Spawned { line: Some(line), ..spawned }),
                Err(CopyError::Refused(error)) => {
                    tracing::warn!(%error, "a worker is started by itself");
                    return spawn(&self.program);
                }
                Err(error) => tracing::warn!(%error, "the process that workers are copies of is replaced"),
            }
            self.zygote = None;
        }
        if now < self.retry_at {
            return spawn(&self.program);
        }
        match self.make_first(line) {
            Ok(spawned) => {
                self.failures = 0;
                Ok(spawned)
            }
            Err(error) => {
                let pause = RETRY_MAX.min(RETRY_FIRST * 2_u32.saturating_pow(self.failures));
                tracing::warn!(
                    %error,
                    "workers are started one by one for {} s, which takes longer and more memory",
                    pause.as_secs()
                );
                (self.failures, self.retry_at) = (self.failures.saturating_add(1), Instant::now() + pause);
                spawn(&self.program)
            }
        }
    }

    /// The first copy of a new zygote.
    fn make_first(&mut self, line: Line) -> io::Result<Spawned> {
        let (zygote, errors) = Zygote::start(&self.program)?;
        if let Some(errors) = errors {
            (self.listen)(zygote.id(), errors);
        }
        if let Some(upbringing) = &self.upbringing {
            zygote.bring_up(upbringing)?;
        }
        let spawned = zygote.copy().map_err(io::Error::other)?;
        self.zygote = Some((zygote, line));
        Ok(Spawned { line: Some(line), ..spawned })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::errno::Errno;

    use super::*;
    use crate::pool::mode::Mode;
    use crate::pool::process::Origin;
    use crate::pool::zygote::tests::answering;

    /// One whose workers are programs that end at once.
    fn maker() -> Maker<impl Fn(u32, ChildStderr)> {
        let program = Program { path: "/bin/true".into(), mode: Mode::Pinned };
        let upbringing = Upbringing { hello: vec![7; 100], guest: None, age_max: Duration::from_secs(3600) };
        Maker::new(program, Some(upbringing), |_, _| ())
    }

    fn is_by_exec(spawned: Spawned) -> bool {
        match spawned.origin {
            Origin::Started(mut child) => child.wait().unwrap().success() && spawned.line.is_none(),
            Origin::Copied(_) => false,
        }
    }

    #[test]
    fn where_there_can_be_no_zygote_workers_are_started_one_by_one_and_it_is_tried_again_later() {
        let mut maker = maker();
        for _ in 0..2 {
            assert!(is_by_exec(maker.make().unwrap()));
            assert_eq!(maker.failures, 1, "not at once");
            assert!(maker.retry_at > Instant::now() + RETRY_FIRST / 2);
        }
        maker.retry_at = Instant::now();
        assert!(is_by_exec(maker.make().unwrap()));
        assert_eq!(maker.failures, 2);
        assert!(maker.retry_at > Instant::now() + RETRY_FIRST, "each time later");
    }

    #[test]
    fn a_zygote_that_could_not_be_copied_for_want_of_processes_is_kept() {
        let mut maker = maker();
        maker.zygote = Some((answering(-(Errno::EAGAIN as i32)), Line(0)));
        assert!(is_by_exec(maker.make().unwrap()));
        assert!(maker.zygote.is_some() && maker.failures == 0);
    }

    #[test]
    fn attack_nothing_is_a_copy_of_a_zygote_whose_line_is_over() {
        let mut maker = maker();
        // Ended with the zygote, as nobody has heard of it.
        let copy = Command::new("/bin/sleep").arg("60").spawn().unwrap().id();
        maker.zygote = Some((answering(copy.cast_signed()), Line(0)));
        maker.line.fetch_add(1, Ordering::Relaxed);
        assert!(is_by_exec(maker.make().unwrap()));
        assert!(maker.zygote.is_none() && maker.failures == 1, "another was tried");
    }
}
