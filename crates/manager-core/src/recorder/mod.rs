//! The execution log: takes records from the hot path, writes them in batches off it.
//!
//! When more executions end than can be written, successes are shed, the oldest of the app with the
//! most first, and counted.
//! Failures are never shed; if the database is away for so long that even they have no place left,
//! each one lost is said in the log. An idle recorder runs one statement three times an hour, which looks for removals that
//! were left undone: see `retention`. What is recorded of an app, and all else of it, goes
//! with the app: see `removal`. What has too many bytes of logs loses the oldest, and no record: see `logs`.

mod logs;
mod queue;
mod removal;
mod retention;
mod row;
mod tail;
#[cfg(test)]
mod testing;
mod writer;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use shared::id::AppId;
use shared::invocation::{ExecutionRecord, ExecutionStatus};
use shared::ports::RecordSink;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use self::logs::Logs;
use self::queue::{Pushed, Queue};
use self::removal::Removals;
pub use self::retention::Retention;
pub(crate) use self::row::row;
use self::tail::Tails;
pub(crate) use self::tail::{TailEvent, TailReader, TooManyTails};
use crate::store::Database;

/// The recorder, as a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    shared: Arc<Shared>,
}

/// What the recorder did since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecorderCounters {
    pub written: u64,
    /// Successes that were not written because there were too many.
    pub shed: u64,
    /// Failures that were not written although they should have been.
    pub lost: u64,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes a writer that waits for records.
    wake: Notify,
    /// Ends a writer's wait for more records, or for the database.
    hurry: Notify,
    tails: Tails,
    written: AtomicU64,
    shed: AtomicU64,
    lost: AtomicU64,
    writer: Mutex<Option<JoinHandle<()>>>,
    retention: Mutex<Option<JoinHandle<()>>>,
    logs: Logs,
    removals: Removals,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    /// Nobody needs to be woken while the writer is at work: it looks again by itself.
    is_writer_waiting: bool,
    is_closed: bool,
}

impl Recorder {
    pub(crate) fn start(database: Database, retention: Retention) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Notify::new(),
            hurry: Notify::new(),
            tails: Tails::default(),
            written: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            writer: Mutex::default(),
            retention: Mutex::default(),
            logs: Logs::default(),
            removals: Removals::start(database.clone()),
        });
        let records = retention::run(Arc::clone(&shared), database.clone(), retention);
        let logs = logs::run(Arc::clone(&shared), database.clone());
        // Neither ends by itself.
        let keeping = tokio::spawn(async move {
            tokio::join!(records, logs);
        });
        *shared.retention.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeping);
        let writer = tokio::spawn(writer::run(Arc::clone(&shared), database));
        *shared.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
        Self { shared }
    }

    pub(crate) fn counters(&self) -> RecorderCounters {
        RecorderCounters {
            written: self.shared.written.load(Ordering::Relaxed),
            shed: self.shared.shed.load(Ordering::Relaxed),
            lost: self.shared.lost.load(Ordering::Relaxed),
        }
    }

    /// Removes what there is of an app that nobody finds any more, in small parts beside everything else. The sender
    /// of what it answers goes when all of it is gone.
    pub(crate) fn remove(&self, app: AppId) -> watch::Receiver<()> {
        self.shared.removals.begin(app)
    }

    /// Executions as they end, from now on.
    pub(crate) fn tail(&self) -> Result<TailReader, TooManyTails> {
        self.shared.tails.open()
    }

    /// Ends every tail, so that a drain does not wait for people who watch.
    pub(crate) fn end_tails(&self) {
        self.shared.tails.end();
    }

    /// Writes what waits and stops. What is offered afterwards is lost.
    pub(crate) async fn close(&self) {
        self.end_tails();
        // What it has not removed yet is removed after the next start.
        if let Some(retention) = self.shared.retention.lock().unwrap_or_else(PoisonError::into_inner).take() {
            retention.abort();
        }
        self.shared.removals.end();
        self.shared.lock().is_closed = true;
        self.shared.wake.notify_one();
        self.shared.hurry.notify_one();
        let writer = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.await.is_err()
        {
            tracing::error!("the recorder's writer ended by itself");
        }
    }
}

impl RecordSink for Recorder {
    fn record(&self, record: ExecutionRecord) {
        self.shared.tails.send(&record);
        let (pushed, wakes) = {
            let mut state = self.shared.lock();
            if state.is_closed {
                let refused = match record.status {
                    ExecutionStatus::Ok => Pushed::Shed(vec![record]),
                    _ => Pushed::Lost(Box::new(record)),
                };
                (refused, false)
            } else {
                (state.queue.push(record), std::mem::take(&mut state.is_writer_waiting))
            }
        };
        if wakes {
            self.shared.wake.notify_one();
        }
        // What is dropped is dropped here, outside the lock.
        self.shared.account(pushed);
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what there was no room for.
    fn account(&self, pushed: Pushed) {
        match pushed {
            Pushed::Kept => {}
            Pushed::Shed(records) => {
                self.shed.fetch_add(records.len() as u64, Ordering::Relaxed);
            }
            Pushed::Lost(record) => self.lose(&record),
        }
    }

    fn lose(&self, record: &ExecutionRecord) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            execution.id = %record.id,
            execution.status = record.status.as_str(),
            script.id = %record.target.script,
            "an execution record is lost"
        );
    }
}
