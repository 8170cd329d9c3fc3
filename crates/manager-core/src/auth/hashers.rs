//! The threads that compute password hashes: as many as may be computed at the same time, and always
//! the same ones, because each keeps the memory that a hash takes for a while. Of the runtime's blocking
//! threads a storm of logins would make dozens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use tokio::sync::oneshot;

use super::argon;

/// How long a thread keeps its memory for the next hash. To fault it in again costs a hash a tenth of its
/// time, which matters in a storm and not to one login now and then.
const KEPT: Duration = Duration::from_secs(2);

type Job = Box<dyn FnOnce() + Send>;

/// Started with the first hash; they end when this is dropped.
#[derive(Debug)]
pub(super) struct Hashers {
    count: usize,
    jobs: OnceLock<Sender<Job>>,
}

/// The work was lost: it panicked, or there is no thread for it.
#[derive(Debug)]
pub(super) struct Lost;

impl Hashers {
    pub(super) const fn new(count: usize) -> Self {
        Self { count, jobs: OnceLock::new() }
    }

    /// Does the work on one of the threads. It is done to its end even when nobody waits any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move || {
            // Nobody may be waiting for it any more.
            let _ = answer.send(work());
        });
        self.jobs.get_or_init(|| start(self.count)).send(job).map_err(|_| Lost)?;
        answered.await.map_err(|_| Lost)
    }
}

fn start(count: usize) -> Sender<Job> {
    // Whoever sends holds a permit, of which there are `count`: no more jobs than that can gather.
    let (sender, receiver) = unbounded::<Job>();
    for number in 0..count {
        let receiver = receiver.clone();
        let thread = thread::Builder::new().name(format!("password-{number}"));
        if let Err(error) = thread.spawn(move || serve(&receiver)) {
            tracing::error!(%error, "a thread for passwords could not be started");
        }
    }
    sender
}

fn serve(jobs: &Receiver<Job>) {
    let mut keeps_memory = false;
    loop {
        let job = if keeps_memory {
            jobs.recv_timeout(KEPT).or_else(|_| {
                argon::give_memory_back();
                jobs.recv()
            })
        } else {
            jobs.recv()
        };
        let Ok(job) = job else { return };
        keeps_memory = true;
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("the work on a password panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[tokio::test]
    async fn work_is_done_by_the_same_few_threads_also_after_a_panic() {
        let hashers = Hashers::new(2);
        assert!(hashers.run::<()>(|| panic!("on purpose")).await.is_err());
        let mut seen = BTreeSet::new();
        for _ in 0..50 {
            let name = hashers.run(|| thread::current().name().map(str::to_owned)).await.unwrap();
            seen.insert(name.unwrap());
        }
        assert!(seen.iter().all(|name| ["password-0", "password-1"].contains(&name.as_str())), "{seen:?}");
    }
}
