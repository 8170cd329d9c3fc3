//! What waits to be written, in two lines: failures, which are kept, and successes, of which the
//! oldest give way. No clock, no database, no lock.

use std::collections::VecDeque;
use std::sync::Arc;

use shared::invocation::{ExecutionRecord, ExecutionStatus};

/// Successes that wait: at full speed about a second's worth of writing.
pub(super) const GOOD_MAX: usize = 4_096;
/// Bytes of logs of waiting successes.
const GOOD_LOG_BYTES_MAX: usize = 32 << 20;
/// Failures that wait. So many pile up only while the database is away; one more is lost, loudly.
pub(super) const FAILED_MAX: usize = 100_000;
/// Bytes of logs of waiting failures. Over it a failure is kept without its log lines.
const FAILED_LOG_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Default)]
pub(super) struct Queue {
    good: Line,
    failed: Line,
}

#[derive(Debug, Default)]
struct Line {
    records: VecDeque<ExecutionRecord>,
    log_bytes: usize,
}

/// What became of a record that was offered.
#[derive(Debug)]
pub(super) enum Pushed {
    Kept,
    /// This success gave way: the oldest one, or the new one when its logs have no room.
    Shed(ExecutionRecord),
    /// A failure for which there was no room left.
    Lost(ExecutionRecord),
}

impl Queue {
    pub(super) fn push(&mut self, record: ExecutionRecord) -> Pushed {
        match record.status {
            ExecutionStatus::Ok => self.push_good(record),
            _ => self.push_failed(record),
        }
    }

    fn push_good(&mut self, record: ExecutionRecord) -> Pushed {
        let is_full = self.good.records.len() >= GOOD_MAX;
        let displaced = if is_full { self.good.pop() } else { None };
        if self.good.log_bytes + log_bytes(&record) > GOOD_LOG_BYTES_MAX {
            // The new one gives way here: making room could take many old ones for one new.
            if let Some(oldest) = displaced {
                self.good.put_back(oldest);
            }
            return Pushed::Shed(record);
        }
        self.good.push(record);
        displaced.map_or(Pushed::Kept, Pushed::Shed)
    }

    fn push_failed(&mut self, mut record: ExecutionRecord) -> Pushed {
        if self.failed.records.len() >= FAILED_MAX {
            return Pushed::Lost(record);
        }
        if self.failed.log_bytes + log_bytes(&record) > FAILED_LOG_BYTES_MAX {
            record.logs = Arc::default();
        }
        self.failed.push(record);
        Pushed::Kept
    }

    pub(super) fn is_empty(&self) -> bool {
        self.failed.records.is_empty() && self.good.records.is_empty()
    }

    /// Takes up to `limit` records, failures first, with at most `good_limit` successes.
    pub(super) fn take(&mut self, limit: usize, good_limit: usize) -> Batch {
        let mut records = Vec::with_capacity(limit.min(self.failed.records.len() + self.good.records.len()));
        while records.len() < limit
            && let Some(record) = self.failed.pop()
        {
            records.push(record);
        }
        let failed = records.len();
        while records.len() < limit
            && records.len() - failed < good_limit
            && let Some(record) = self.good.pop()
        {
            records.push(record);
        }
        Batch { records, failed }
    }
}

impl Line {
    fn push(&mut self, record: ExecutionRecord) {
        self.log_bytes += log_bytes(&record);
        self.records.push_back(record);
    }

    fn pop(&mut self) -> Option<ExecutionRecord> {
        let record = self.records.pop_front()?;
        self.log_bytes -= log_bytes(&record);
        Some(record)
    }

    fn put_back(&mut self, record: ExecutionRecord) {
        self.log_bytes += log_bytes(&record);
        self.records.push_front(record);
    }
}

/// Records that are written together: `failed` failures and then successes.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) records: Vec<ExecutionRecord>,
    pub(super) failed: usize,
}

fn log_bytes(record: &ExecutionRecord) -> usize {
    record.logs.iter().map(|line| line.message.len() + line.data.len()).sum()
}

#[cfg(test)]
mod tests {
    use shared::host_call::LogLevel;
    use shared::invocation::LogEntry;

    use super::super::testing::record;
    use super::*;

    fn with_logs(mut record: ExecutionRecord, bytes: usize) -> ExecutionRecord {
        record.logs =
            Arc::new([LogEntry { level: LogLevel::Info, message: "x".repeat(bytes), data: String::new() }]);
        record
    }

    #[test]
    fn the_oldest_success_gives_way_to_the_newest() {
        let mut queue = Queue::default();
        let first = record(ExecutionStatus::Ok);
        let first_id = first.id;
        queue.push(first);
        for _ in 1..GOOD_MAX {
            assert!(matches!(queue.push(record(ExecutionStatus::Ok)), Pushed::Kept));
        }
        let Pushed::Shed(shed) = queue.push(record(ExecutionStatus::Ok)) else { panic!("nothing was shed") };
        assert_eq!(shed.id, first_id);
    }

    #[test]
    fn failures_are_kept_when_successes_are_shed() {
        let mut queue = Queue::default();
        queue.push(record(ExecutionStatus::Timeout));
        for _ in 0..2 * GOOD_MAX {
            queue.push(record(ExecutionStatus::Ok));
        }
        assert!(matches!(queue.push(record(ExecutionStatus::ScriptError)), Pushed::Kept));
        let batch = queue.take(1_000, 1_000);
        assert_eq!((batch.failed, batch.records.len()), (2, 1_000));
        assert_eq!(batch.records[0].status, ExecutionStatus::Timeout);
    }

    #[test]
    fn the_allowance_bounds_successes_and_not_failures() {
        let mut queue = Queue::default();
        for _ in 0..5 {
            queue.push(record(ExecutionStatus::Ok));
            queue.push(record(ExecutionStatus::Timeout));
        }
        let batch = queue.take(1_000, 2);
        assert_eq!((batch.failed, batch.records.len()), (5, 7));
        assert!(!queue.is_empty());
    }

    #[test]
    fn logs_are_bounded_in_bytes() {
        let mut queue = Queue::default();
        let half = FAILED_LOG_BYTES_MAX / 2 + 1;
        queue.push(with_logs(record(ExecutionStatus::Timeout), half));
        assert!(matches!(queue.push(with_logs(record(ExecutionStatus::Timeout), half)), Pushed::Kept));
        assert!(matches!(
            queue.push(with_logs(record(ExecutionStatus::Ok), GOOD_LOG_BYTES_MAX + 1)),
            Pushed::Shed(_)
        ));
        let batch = queue.take(10, 10);
        let lines: Vec<_> = batch.records.iter().map(|record| record.logs.len()).collect();
        assert_eq!(lines, [1, 0], "the second failure is kept without its log");
        assert_eq!(queue.failed.log_bytes, 0);
    }
}
