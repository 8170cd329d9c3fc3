//! The task that writes: waits for records, lets a batch gather, writes it, until closed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use shared::id::AppId;
use shared::invocation::{ExecutionRecord, ExecutionStatus};

use super::Shared;
use super::queue::{Batch, Queue};
use super::row::{empty, row};
use crate::store::executions::ExecutionRow;
use crate::store::{self, Database};

/// How long a first record waits for company.
const GATHER: Duration = Duration::from_millis(50);
/// Rows of one statement.
const BATCH_MAX: usize = 1_000;
/// Successes written in a second, so that recording never takes the machine from what it records.
const GOOD_PER_SECOND: f64 = 1_000.0;
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// When to try again to write records of apps that were locked.
const HELD_RETRY: Duration = Duration::from_secs(1);
/// How long a closing recorder waits for a database that is away.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn run(shared: Arc<Shared>, database: Database) {
    let (held, held_until) = (Queue::default(), Instant::now());
    let mut writer = Writer { shared, database, closing_since: None, held, held_until };
    let mut allowance = Allowance { left: GOOD_PER_SECOND, at: Instant::now() };
    while writer.wait_for_records().await {
        if !writer.is_closing() {
            writer.nap(GATHER).await;
        }
        writer.write_held().await;
        let good_limit = if writer.is_closing() { usize::MAX } else { allowance.refill(Instant::now()) };
        let batch = writer.shared.lock().queue.take(BATCH_MAX, good_limit);
        allowance.spend(batch.records.len() - batch.failed);
        writer.write(batch).await;
    }
}

struct Writer {
    shared: Arc<Shared>,
    database: Database,
    closing_since: Option<Instant>,
    /// Records of apps that were locked. They wait here, and nothing waits for them.
    held: Queue,
    held_until: Instant,
}

impl Writer {
    /// False when the recorder is closed and all is written.
    async fn wait_for_records(&self) -> bool {
        loop {
            let held_for = self.held_until.saturating_duration_since(Instant::now());
            {
                let mut state = self.shared.lock();
                let is_held_due = !self.held.is_empty() && (state.is_closed || held_for.is_zero());
                if is_held_due || !state.queue.is_empty() {
                    return true;
                }
                if state.is_closed {
                    return false;
                }
                state.is_writer_waiting = true;
            }
            let woken = self.shared.wake.notified();
            if self.held.is_empty() {
                woken.await;
            } else {
                let _ = tokio::time::timeout(held_for, woken).await;
            }
        }
    }

    fn is_closing(&mut self) -> bool {
        if self.closing_since.is_none() && self.shared.lock().is_closed {
            self.closing_since = Some(Instant::now());
        }
        self.closing_since.is_some()
    }

    /// Whether a closing recorder has waited long enough.
    fn gives_up(&mut self) -> bool {
        self.is_closing() && self.closing_since.is_some_and(|since| since.elapsed() > CLOSE_PATIENCE)
    }

    /// Waits, less when the recorder is closed meanwhile.
    async fn nap(&self, longest: Duration) {
        let _ = tokio::time::timeout(longest, self.shared.hurry.notified()).await;
    }

    /// Tries again what is held, when it is time.
    async fn write_held(&mut self) {
        let held_for = self.held_until.saturating_duration_since(Instant::now());
        if self.held.is_empty() || !(held_for.is_zero() || self.is_closing()) {
            return;
        }
        if self.gives_up() {
            let batch = self.held.take(usize::MAX, usize::MAX);
            return batch.records.iter().for_each(|record| self.give_up(record));
        }
        self.nap(held_for).await;
        let batch = self.held.take(BATCH_MAX, usize::MAX);
        self.write(batch).await;
    }

    /// Writes a batch, however long the database is away.
    async fn write(&mut self, batch: Batch) {
        let Batch { records, failed } = batch;
        if records.is_empty() {
            return;
        }
        let rows: Vec<_> = records.iter().map(row).collect();
        let mut delay = RETRY_FIRST;
        loop {
            match insert(&self.database, &rows, failed > 0).await {
                Ok(locked) => {
                    self.shared.logs.wrote(&rows, &locked);
                    return self.settle(records, &locked);
                }
                Err(error) if store::is_about_data(&error) => {
                    tracing::warn!(%error, "a batch of execution records was refused; writing one by one");
                    return self.write_singly(records, rows).await;
                }
                Err(error) => tracing::warn!(%error, "execution records wait for the database"),
            }
            if self.gives_up() {
                return records.iter().for_each(|record| self.give_up(record));
            }
            self.nap(delay).await;
            delay = (delay * 2).min(RETRY_LONGEST);
        }
    }

    /// Finds the rows that the database refuses, so that they do not take others with them.
    async fn write_singly(&mut self, records: Vec<ExecutionRecord>, rows: Vec<ExecutionRow>) {
        for (record, mut row) in records.into_iter().zip(rows) {
            let is_failure = record.status != ExecutionStatus::Ok;
            let mut written = insert(&self.database, std::slice::from_ref(&row), is_failure).await;
            if written.is_err() {
                // What a script wrote is the likeliest reason; the outcome itself is worth keeping.
                row.error = None;
                row.logs = empty();
                written = insert(&self.database, std::slice::from_ref(&row), is_failure).await;
            }
            match written {
                Ok(locked) => {
                    self.shared.logs.wrote(&[row], &locked);
                    self.settle(vec![record], &locked);
                }
                Err(error) => {
                    tracing::error!(%error, execution.id = %record.id, "an execution record was refused");
                    self.give_up(&record);
                }
            }
        }
    }

    /// Counts what was written, and holds what was not because its app was locked.
    fn settle(&mut self, records: Vec<ExecutionRecord>, locked: &[AppId]) {
        let (held, written): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| locked.contains(&record.target.app));
        self.shared.written.fetch_add(written.len() as u64, Ordering::Relaxed);
        if !held.is_empty() {
            self.held_until = Instant::now() + HELD_RETRY;
        }
        for record in held {
            self.shared.account(self.held.push(record));
        }
    }

    fn give_up(&self, record: &ExecutionRecord) {
        match record.status {
            ExecutionStatus::Ok => {
                self.shared.shed.fetch_add(1, Ordering::Relaxed);
            }
            _ => self.shared.lose(record),
        }
    }
}

/// Answers which apps were locked.
async fn insert(database: &Database, rows: &[ExecutionRow], is_durable: bool) -> sqlx::Result<Vec<AppId>> {
    if is_durable {
        return store::executions::insert(&mut *database.acquire().await?, rows).await;
    }
    let _turn = database.turn().await;
    let mut tx = database.begin_lazily().await?;
    let locked = store::executions::insert(&mut tx, rows).await?;
    tx.commit().await?;
    Ok(locked)
}

/// How many successes may be written now.
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn refill(&mut self, now: Instant) -> usize {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * GOOD_PER_SECOND;
        self.left = (self.left + gained).min(GOOD_PER_SECOND);
        self.at = now;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and GOOD_PER_SECOND by construction"
        )]
        let whole = self.left as usize;
        whole
    }

    fn spend(&mut self, rows: usize) {
        self.left = (self.left - rows as f64).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successes_are_allowed_at_a_bounded_rate() {
        let start = Instant::now();
        let mut allowance = Allowance { left: GOOD_PER_SECOND, at: start };
        assert_eq!(allowance.refill(start), 1_000);
        allowance.spend(1_000);
        assert_eq!(allowance.refill(start), 0);
        assert_eq!(allowance.refill(start + Duration::from_millis(50)), 50);
        assert_eq!(allowance.refill(start + Duration::from_secs(60)), 1_000, "saved up to one second");
    }
}
