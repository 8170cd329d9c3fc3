//! The task that writes: waits for records, lets a batch gather, writes it, until closed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use shared::invocation::{ExecutionRecord, ExecutionStatus};

use super::Shared;
use super::queue::Batch;
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
/// How long a closing recorder waits for a database that is away.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn run(shared: Arc<Shared>, database: Database) {
    let mut writer = Writer { shared, database, closing_since: None };
    let mut allowance = Allowance { left: GOOD_PER_SECOND, at: Instant::now() };
    while writer.wait_for_records().await {
        if !writer.is_closing() {
            writer.nap(GATHER).await;
        }
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
}

impl Writer {
    /// False when the recorder is closed and all is written.
    async fn wait_for_records(&self) -> bool {
        loop {
            {
                let mut state = self.shared.lock();
                if !state.queue.is_empty() {
                    return true;
                }
                if state.is_closed {
                    return false;
                }
                state.is_writer_waiting = true;
            }
            self.shared.wake.notified().await;
        }
    }

    fn is_closing(&mut self) -> bool {
        if self.closing_since.is_none() && self.shared.lock().is_closed {
            self.closing_since = Some(Instant::now());
        }
        self.closing_since.is_some()
    }

    /// Waits, less when the recorder is closed meanwhile.
    async fn nap(&self, longest: Duration) {
        let _ = tokio::time::timeout(longest, self.shared.hurry.notified()).await;
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
                Ok(()) => {
                    self.shared.written.fetch_add(rows.len() as u64, Ordering::Relaxed);
                    return;
                }
                Err(error) if store::is_about_data(&error) => {
                    tracing::warn!(%error, "a batch of execution records was refused; writing one by one");
                    return self.write_singly(&records, rows).await;
                }
                Err(error) => tracing::warn!(%error, "execution records wait for the database"),
            }
            if self.is_closing() && self.closing_since.is_some_and(|since| since.elapsed() > CLOSE_PATIENCE) {
                return records.iter().for_each(|record| self.give_up(record));
            }
            self.nap(delay).await;
            delay = (delay * 2).min(RETRY_LONGEST);
        }
    }

    /// Finds the rows that the database refuses, so that they do not take others with them.
    async fn write_singly(&self, records: &[ExecutionRecord], rows: Vec<ExecutionRow>) {
        for (record, mut row) in records.iter().zip(rows) {
            let is_failure = record.status != ExecutionStatus::Ok;
            if insert(&self.database, std::slice::from_ref(&row), is_failure).await.is_err() {
                // What a script wrote is the likeliest reason; the outcome itself is worth keeping.
                row.error = None;
                row.logs = empty();
                if let Err(error) = insert(&self.database, &[row], is_failure).await {
                    tracing::error!(%error, execution.id = %record.id, "an execution record was refused");
                    self.give_up(record);
                    continue;
                }
            }
            self.shared.written.fetch_add(1, Ordering::Relaxed);
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

async fn insert(database: &Database, rows: &[ExecutionRow], is_durable: bool) -> sqlx::Result<()> {
    if is_durable {
        return store::executions::insert(&mut *database.acquire().await?, rows).await;
    }
    let _turn = database.turn().await;
    let mut tx = database.begin_lazily().await?;
    store::executions::insert(&mut tx, rows).await?;
    tx.commit().await
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
