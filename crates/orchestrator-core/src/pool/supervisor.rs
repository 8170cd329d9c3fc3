//! Keeps the workers there: hires for every vacancy, with a warm spare for the next one.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shared::incident::Suspect;
use shared::wire::worker::Layers;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::conversation::{Over, run_conversation};
use super::groups::{Controllers, Group, Ungrouped};
use super::outcome;
use super::process::Exit;
use super::recruit::{PoolConfig, ReadyWorker, Recruiter, StartError};
use super::socket::Socket;
use super::state::Shared;
use super::suspicion;
use super::verify::Isolation;

/// A worker that lived at least this long did not fail to start.
const HEALTHY: Duration = Duration::from_secs(2);
/// Spares where a tenant that has no worker gets a fresh one; two are made at the same time then.
/// Elsewhere only a lost worker needs a spare.
const SPARES: usize = 2;
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// What is known once the first worker is ready.
pub(super) struct Started {
    /// The walls around it.
    pub(super) isolation: Isolation,
    pub(super) grouping: Result<Controllers, Ungrouped>,
}

/// Begins to hire; returns when the first worker is ready, or with the reason why none is.
pub(super) async fn start(config: PoolConfig, shared: Arc<Shared>) -> Result<Started, StartError> {
    let mode = config.mode;
    let recruiter = Recruiter::new(config)?;
    let grouping = recruiter.grouping();
    let first = recruiter.make_ready().await?;
    let isolation = first.isolation;
    if mode.has_walls() && isolation.missing() != Layers::NONE {
        let missing = isolation.missing();
        tracing::warn!(%missing, "workers are less isolated than they could be; picloud doctor says what helps");
    }
    let spare_count = if mode.parts_tenants() { SPARES } else { 1 };
    let (ready, spares) = mpsc::channel(spare_count);
    let setbacks = Arc::<Setbacks>::default();
    let farm = Farm { shared: shared.clone(), setbacks: setbacks.clone(), recruiter: recruiter.clone() };
    tokio::spawn(farm.hire(first, spares));
    for _ in 0..spare_count {
        tokio::spawn(keep_spare(recruiter.clone(), ready.clone(), setbacks.clone(), shared.clone()));
    }
    Ok(Started { isolation, grouping })
}

/// What went wrong with workers of late. Each time, the next one is made later.
#[derive(Debug, Default)]
struct Setbacks {
    /// That did not start, since one did.
    unmade: AtomicU32,
    /// That started and died young, since one did not. To start says nothing of that.
    young: AtomicU32,
}

impl Setbacks {
    fn not_made(&self) {
        self.unmade.fetch_add(1, Ordering::Relaxed);
    }

    fn made(&self) {
        self.unmade.store(0, Ordering::Relaxed);
    }

    fn died_young(&self) {
        self.young.fetch_add(1, Ordering::Relaxed);
    }

    fn did_well(&self) {
        self.young.store(0, Ordering::Relaxed);
    }

    /// How long to wait before the next one is made.
    fn pause(&self) -> Duration {
        let count = self.unmade.load(Ordering::Relaxed).saturating_add(self.young.load(Ordering::Relaxed));
        let more = count.checked_sub(1);
        more.map_or(Duration::ZERO, |more| BACKOFF_MAX.min(BACKOFF_FIRST * 2_u32.saturating_pow(more)))
    }
}

/// Makes a worker whenever the spare has been taken; waits longer after each one that fails.
async fn keep_spare(
    recruiter: Recruiter,
    ready: mpsc::Sender<ReadyWorker>,
    setbacks: Arc<Setbacks>,
    shared: Arc<Shared>,
) {
    while let Ok(permit) = ready.reserve().await {
        if shared.is_draining() {
            return;
        }
        let pause = setbacks.pause();
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        match recruiter.make_fit().await {
            Ok(worker) => {
                setbacks.made();
                permit.send(worker);
            }
            Err(error) => {
                setbacks.not_made();
                tracing::error!(%error, "a worker did not start");
            }
        }
    }
}

/// The next spare that lives and is not outdated; none when no more are made. One that has died while it waited would lose
/// the work that it is given, and a script would be blamed for that.
async fn next_fit(
    spares: &mut mpsc::Receiver<ReadyWorker>,
    setbacks: &Setbacks,
    is_outdated: impl Fn(&ReadyWorker) -> bool,
) -> Option<ReadyWorker> {
    loop {
        let worker = spares.recv().await?;
        let has_ended = worker.process.has_ended();
        if !has_ended && !is_outdated(&worker) {
            return Some(worker);
        }
        let ReadyWorker { process, socket, group, .. } = worker;
        let pid = process.id();
        drop(socket);
        let exit = process.end().await;
        // Only an empty one can be removed.
        drop(group);
        if !has_ended {
            tracing::debug!(worker.pid = pid, "a spare worker has the layout of one that was lost");
            continue;
        }
        if !exit.is_from_outside() {
            setbacks.died_young();
        }
        tracing::warn!(worker.pid = pid, exit = exit.describe(), "a spare worker died while it waited");
    }
}

/// Those who are at work.
#[derive(Clone)]
struct Farm {
    shared: Arc<Shared>,
    setbacks: Arc<Setbacks>,
    /// Kept to the end: workers die with the thread that started them, which ends with its last recruiter.
    /// When the pool drains, those who make spares go before those who are at work.
    recruiter: Recruiter,
}

impl Farm {
    /// Fills every vacancy from the spares, until the pool drains.
    async fn hire(self, first: ReadyWorker, mut spares: mpsc::Receiver<ReadyWorker>) {
        let mut first = Some(first);
        while self.shared.vacancy().await {
            let worker = match first.take() {
                Some(worker) => Some(worker),
                None => {
                    let is_outdated = |worker: &_| self.recruiter.is_outdated(worker);
                    next_fit(&mut spares, &self.setbacks, is_outdated).await
                }
            };
            let Some(worker) = worker else {
                return;
            };
            let farm = self.clone();
            tokio::spawn(async move { farm.employ(worker).await });
        }
    }

    async fn employ(&self, worker: ReadyWorker) {
        let since = Instant::now();
        let what = (worker.process.id(), worker.slots, worker.isolation);
        let Some((id, wake)) = self.shared.attach(what, worker.group.is_some(), worker.line) else {
            drop(worker.socket);
            worker.process.end().await;
            return;
        };
        let pid = worker.process.id();
        tracing::debug!(worker.pid = pid, "worker ready");
        let mut just_ended = Vec::new();
        let over = self.converse(id, &worker.socket, &wake, &mut just_ended).await;
        let is_known = matches!(over, Over::Violation(_) | Over::Unruly(_) | Over::Stalled);
        let (exit, process) = if is_known {
            (Exit::Unknown, Some(worker.process))
        } else {
            // Whether that is suspicious must be known before anything that waits is started; its end is near.
            self.shared.give_up(id);
            (worker.process.end().await, None)
        };
        let is_out_of_memory = worker.group.as_ref().is_some_and(Group::was_out_of_memory);
        let misconduct = |may_leave| suspicion::misconduct(&over, exit, may_leave, is_out_of_memory);
        let gone = self.shared.detach(id, just_ended, |may_leave| {
            let is_misconduct = misconduct(may_leave).is_some();
            if is_misconduct {
                // Before its place is vacant. Who tries again and again is not to learn more about the same addresses each time.
                self.recruiter.renew(worker.line);
            }
            is_misconduct
        });
        let misconduct = misconduct(gone.may_leave);
        let lost_count = gone.executions.len();
        for execution in gone.executions {
            outcome::conclude_lost(execution, &*self.shared.ports.records);
        }
        drop(worker.socket);
        let exit = match process {
            Some(process) => process.end().await,
            None => exit,
        };
        // Only an empty one can be removed.
        drop(worker.group);
        if matches!(over, Over::Closed) && exit.is_clean() && gone.may_leave {
            tracing::debug!(worker.pid = pid, "worker ended");
            // It started and did its work; what went wrong with others before is over.
            self.setbacks.did_well();
            return;
        }
        if let Some(misconduct) = misconduct {
            let detail = format!("{over}; {}", exit.describe());
            let sink = &*self.shared.ports.incidents;
            suspicion::report(gone.suspects, misconduct, gone.is_one_scripts, &detail, sink);
        }
        // One that was given work had started well: a script that ends its workers must not make others wait for theirs.
        let has_started = gone.has_worked || lost_count > 0 || since.elapsed() >= HEALTHY;
        if !has_started && !exit.is_from_outside() {
            self.setbacks.died_young();
        } else {
            self.setbacks.did_well();
        }
        tracing::warn!(
            worker.pid = pid,
            executions.lost = lost_count,
            exit = exit.describe(),
            "worker lost: {over}"
        );
    }

    /// Talks to a worker until one of the two is done with the other. That may be in an hour: when it has not died young is
    /// known before.
    async fn converse(
        &self,
        id: u64,
        socket: &Socket,
        wake: &Arc<Notify>,
        just_ended: &mut Vec<Suspect>,
    ) -> Over {
        let mut conversation = pin!(run_conversation(&self.shared, id, socket, wake, just_ended));
        if let Ok(over) = timeout(HEALTHY, conversation.as_mut()).await {
            return over;
        }
        self.setbacks.did_well();
        conversation.await
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::pool::process::{Origin, Process};

    #[test]
    fn who_makes_workers_waits_no_longer_once_one_has_started() {
        let setbacks = Setbacks::default();
        assert_eq!(setbacks.pause(), Duration::ZERO);
        setbacks.not_made();
        assert_eq!(setbacks.pause(), BACKOFF_FIRST);
        (0..40).for_each(|_| setbacks.not_made());
        assert_eq!(setbacks.pause(), BACKOFF_MAX);
        setbacks.made();
        assert_eq!(setbacks.pause(), Duration::ZERO);
    }

    #[test]
    fn that_workers_start_does_not_make_more_of_those_that_die_young() {
        let setbacks = Setbacks::default();
        for _ in 0..40 {
            setbacks.made();
            setbacks.died_young();
        }
        setbacks.made();
        assert_eq!(setbacks.pause(), BACKOFF_MAX);
        setbacks.did_well();
        assert_eq!(setbacks.pause(), Duration::ZERO);
    }

    /// A spare that says which process it is, and then does so.
    async fn spare(then: &str) -> ReadyWorker {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("echo $$; {then}")]).stdin(Stdio::null()).stdout(Stdio::piped());
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        let process = Process::meet(Origin::Started(shell.spawn().unwrap()), deadline).await.unwrap();
        let (stream, _) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        let socket = Socket::new(stream).unwrap();
        ReadyWorker { process, socket, slots: 1, isolation: Isolation::NONE, group: None, line: None }
    }

    #[tokio::test]
    async fn a_spare_that_died_while_it_waited_gives_its_place_to_the_next() {
        let (ready, mut spares) = mpsc::channel(2);
        let (dead, alive) = (spare("exit 3").await, spare("exec sleep 60").await);
        let (dead_pid, alive_pid) = (dead.process.id(), alive.process.id());
        while !dead.process.has_ended() {
            tokio::task::yield_now().await;
        }
        for spare in [dead, alive] {
            ready.send(spare).await.unwrap();
        }
        let setbacks = Setbacks::default();
        let next = next_fit(&mut spares, &setbacks, |_| false).await.unwrap();
        assert_eq!(next.process.id(), alive_pid);
        assert!(!Path::new(&format!("/proc/{dead_pid}")).exists(), "it is collected");
        assert_eq!(setbacks.pause(), BACKOFF_FIRST, "it may be the same with those to come");
        assert!(next.process.end().await.is_from_outside());
        drop(ready);
        assert!(next_fit(&mut spares, &setbacks, |_| false).await.is_none());
    }

    #[tokio::test]
    async fn attack_a_spare_with_the_layout_of_a_worker_that_was_lost_gets_no_work() {
        let (ready, mut spares) = mpsc::channel(2);
        let (old, new) = (spare("exec sleep 60").await, spare("exec sleep 60").await);
        let (old_pid, new_pid) = (old.process.id(), new.process.id());
        for spare in [old, new] {
            ready.send(spare).await.unwrap();
        }
        let setbacks = Setbacks::default();
        let is_outdated = |worker: &ReadyWorker| worker.process.id() == old_pid;
        let next = next_fit(&mut spares, &setbacks, is_outdated).await.unwrap();
        assert_eq!(next.process.id(), new_pid);
        assert!(!Path::new(&format!("/proc/{old_pid}")).exists(), "it is ended");
        assert_eq!(setbacks.pause(), Duration::ZERO, "nothing was wrong with it");
        next.process.end().await;
    }
}
