//! Keeps the workers there: hires for every vacancy, with a warm spare for the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shared::wire::worker::Layers;
use tokio::sync::mpsc;

use super::conversation::{Over, run_conversation};
use super::groups::{Controllers, Group, Ungrouped};
use super::outcome;
use super::process::Exit;
use super::recruit::{PoolConfig, ReadyWorker, Recruiter, StartError};
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
    let failures = Arc::new(AtomicU32::new(0));
    let farm = Farm { shared: shared.clone(), failures: failures.clone(), _recruiter: recruiter.clone() };
    tokio::spawn(farm.hire(first, spares));
    for _ in 0..spare_count {
        tokio::spawn(keep_spare(recruiter.clone(), ready.clone(), failures.clone(), shared.clone()));
    }
    Ok(Started { isolation, grouping })
}

/// Makes a worker whenever the spare has been taken; waits longer after each one that fails.
async fn keep_spare(
    recruiter: Recruiter,
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
        match recruiter.make_fit().await {
            Ok(worker) => permit.send(worker),
            Err(error) => {
                failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "a worker did not start");
            }
        }
    }
}

/// Those who are at work.
#[derive(Clone)]
struct Farm {
    shared: Arc<Shared>,
    failures: Arc<AtomicU32>,
    /// Not used, but kept: workers die with the thread that started them, which ends with its last recruiter.
    /// When the pool drains, those who make spares go before those who are at work.
    _recruiter: Recruiter,
}

impl Farm {
    /// Fills every vacancy from the spares, until the pool drains.
    async fn hire(self, first: ReadyWorker, mut spares: mpsc::Receiver<ReadyWorker>) {
        let mut first = Some(first);
        while self.shared.vacancy().await {
            let worker = match first.take() {
                Some(worker) => Some(worker),
                None => spares.recv().await,
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
        let Some((id, wake)) = self.shared.attach(what, worker.group.is_some()) else {
            drop(worker.socket);
            worker.process.end().await;
            return;
        };
        let pid = worker.process.id();
        tracing::debug!(worker.pid = pid, "worker ready");
        let mut just_ended = Vec::new();
        let over = run_conversation(&self.shared, id, &worker.socket, &wake, &mut just_ended).await;
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
        let gone = self.shared.detach(id, just_ended, |may_leave| misconduct(may_leave).is_some());
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
            self.failures.store(0, Ordering::Relaxed);
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
            self.failures.fetch_add(1, Ordering::Relaxed);
        } else {
            self.failures.store(0, Ordering::Relaxed);
        }
        tracing::warn!(
            worker.pid = pid,
            executions.lost = lost_count,
            exit = exit.describe(),
            "worker lost: {over}"
        );
    }
}
