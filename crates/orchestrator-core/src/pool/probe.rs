//! A worker that is started only to be looked at, for the doctor.

use std::time::{Duration, Instant};

use super::recruit::{PoolConfig, ReadyWorker, Recruiter, StartError};
use super::verify::{self, Isolation};

/// What a worker turned out to be that was started only to be looked at.
#[derive(Debug, Clone)]
pub struct Probe {
    pub isolation: Isolation,
    /// Ids of the groups that it is in besides its user's own.
    pub groups: Vec<u32>,
    /// How soon the kernel ends it for want of memory, from -1,000, never, to 1,000, first; none when it cannot be
    /// seen.
    pub out_of_memory_score: Option<i32>,
    pub slots: u16,
    /// From the decision to start it to its being ready for work.
    pub start_up: Duration,
    /// The same of the first one, with which the process is started that others are copies of, where there is one.
    pub first_start_up: Duration,
}

/// Starts a worker as a server does that runs, looks at it, and ends it.
pub async fn probe(config: PoolConfig) -> Result<Probe, StartError> {
    let recruiter = Recruiter::new(config)?;
    let (mut worker, first_start_up) = make_timed(&recruiter).await?;
    let mut start_up = first_start_up;
    if recruiter.has_zygote() {
        drop(worker.socket);
        worker.process.end().await;
        (worker, start_up) = make_timed(&recruiter).await?;
    }
    let pid = worker.process.id();
    let probe = Probe {
        isolation: worker.isolation,
        groups: verify::groups(pid),
        out_of_memory_score: verify::out_of_memory_score(pid),
        slots: worker.slots,
        start_up,
        first_start_up,
    };
    drop(worker.socket);
    worker.process.end().await;
    Ok(probe)
}

async fn make_timed(recruiter: &Recruiter) -> Result<(ReadyWorker, Duration), StartError> {
    let since = Instant::now();
    let worker = recruiter.make_ready().await?;
    Ok((worker, since.elapsed()))
}
