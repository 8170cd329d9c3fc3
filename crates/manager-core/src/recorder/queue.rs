//! What waits to be written: failures, which are kept, and successes, which give way when there are
//! too many. No clock, no database, no lock.
//!
//! Successes wait in a line for each app. The one with the most gives way, and the lines are written
//! in turn: an app that runs ten thousand times a second hides none of what another ran.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::sync::Arc;

use shared::id::AppId;
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
    good: Good,
    failed: Line,
}

/// Successes, by app.
#[derive(Debug, Default)]
struct Good {
    /// No line is empty.
    lines: HashMap<AppId, Line>,
    /// The apps of the lines, the next one to be written first.
    turns: VecDeque<AppId>,
    count: usize,
    log_bytes: usize,
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
    /// These successes gave way: the oldest of the app with the most, or the new one.
    Shed(Vec<ExecutionRecord>),
    /// A failure for which there was no room left.
    Lost(Box<ExecutionRecord>),
}

impl Queue {
    pub(super) fn push(&mut self, record: ExecutionRecord) -> Pushed {
        match record.status {
            ExecutionStatus::Ok => {
                let shed = self.good.push(record);
                if shed.is_empty() { Pushed::Kept } else { Pushed::Shed(shed) }
            }
            _ => self.push_failed(record),
        }
    }

    fn push_failed(&mut self, mut record: ExecutionRecord) -> Pushed {
        if self.failed.records.len() >= FAILED_MAX {
            return Pushed::Lost(Box::new(record));
        }
        if self.failed.log_bytes + log_bytes(&record) > FAILED_LOG_BYTES_MAX {
            record.logs = Arc::default();
        }
        self.failed.push(record);
        Pushed::Kept
    }

    pub(super) fn is_empty(&self) -> bool {
        self.failed.records.is_empty() && self.good.count == 0
    }

    /// Takes up to `limit` records, failures first, with at most `good_limit` successes.
    pub(super) fn take(&mut self, limit: usize, good_limit: usize) -> Batch {
        let mut records = Vec::with_capacity(limit.min(self.failed.records.len() + self.good.count));
        while records.len() < limit
            && let Some(record) = self.failed.pop()
        {
            records.push(record);
        }
        let failed = records.len();
        while records.len() < limit
            && records.len() - failed < good_limit
            && let Some(record) = self.good.next()
        {
            records.push(record);
        }
        Batch { records, failed }
    }
}

impl Good {
    /// Takes a record in; answers what gave way.
    fn push(&mut self, record: ExecutionRecord) -> Vec<ExecutionRecord> {
        let mut shed = Vec::new();
        let (app, bytes) = (record.target.app, log_bytes(&record));
        if self.log_bytes + bytes > GOOD_LOG_BYTES_MAX {
            let own = self.lines.get(&app).map_or(0, |line| line.log_bytes) + bytes;
            let others = || self.lines.iter().filter(|(other, _)| **other != app);
            // The new one gives way, not several old ones to it, unless others take more than its app.
            if others().all(|(_, line)| line.log_bytes <= own) {
                return vec![record];
            }
            while self.log_bytes + bytes > GOOD_LOG_BYTES_MAX
                && let Some(most) = self.lines.iter().max_by_key(|(_, line)| line.log_bytes)
                && let Some(oldest) = self.shed(*most.0)
            {
                shed.push(oldest);
            }
        }
        if self.count >= GOOD_MAX {
            let own = self.lines.get(&app).map_or(0, |line| line.records.len());
            let fair = GOOD_MAX / self.lines.len().max(1);
            // Who has more than a fair part is known without a search; where it has less, another has more.
            let most = if own > fair { Some(app) } else { self.longest() };
            shed.extend(most.and_then(|most| self.shed(most)));
        }
        self.count += 1;
        self.log_bytes += bytes;
        match self.lines.entry(app) {
            Entry::Occupied(line) => line.into_mut().push(record),
            Entry::Vacant(place) => {
                place.insert(Line::default()).push(record);
                self.turns.push_back(app);
            }
        }
        shed
    }

    fn longest(&self) -> Option<AppId> {
        self.lines.iter().max_by_key(|(_, line)| line.records.len()).map(|(app, _)| *app)
    }

    /// The next record to be written: the oldest of the app whose turn it is.
    fn next(&mut self) -> Option<ExecutionRecord> {
        let app = self.turns.pop_front()?;
        let record = self.pop(app);
        if self.lines.contains_key(&app) {
            self.turns.push_back(app);
        }
        record
    }

    /// Takes the oldest record of an app out of its turn.
    fn shed(&mut self, app: AppId) -> Option<ExecutionRecord> {
        let record = self.pop(app);
        if !self.lines.contains_key(&app) {
            self.turns.retain(|turn| *turn != app);
        }
        record
    }

    fn pop(&mut self, app: AppId) -> Option<ExecutionRecord> {
        let line = self.lines.get_mut(&app)?;
        let record = line.pop()?;
        if line.records.is_empty() {
            self.lines.remove(&app);
        }
        self.count -= 1;
        self.log_bytes -= log_bytes(&record);
        Some(record)
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

    /// A success of an app.
    fn good(app: AppId) -> ExecutionRecord {
        let mut record = record(ExecutionStatus::Ok);
        Arc::make_mut(&mut record.target).app = app;
        record
    }

    fn with_logs(mut record: ExecutionRecord, bytes: usize) -> ExecutionRecord {
        record.logs =
            Arc::new([LogEntry { level: LogLevel::Info, message: "x".repeat(bytes), data: String::new() }]);
        record
    }

    #[test]
    fn the_oldest_success_gives_way_to_the_newest() {
        let (mut queue, app) = (Queue::default(), AppId::new());
        let first = good(app);
        let first_id = first.id;
        queue.push(first);
        for _ in 1..GOOD_MAX {
            assert!(matches!(queue.push(good(app)), Pushed::Kept));
        }
        let Pushed::Shed(shed) = queue.push(good(app)) else { panic!("nothing was shed") };
        assert_eq!(shed.iter().map(|record| record.id).collect::<Vec<_>>(), [first_id]);
    }

    #[test]
    fn one_apps_flood_hides_nothing_that_another_ran() {
        let (mut queue, flood, quiet) = (Queue::default(), AppId::new(), AppId::new());
        let mut shed = Vec::new();
        for number in 0..4 * GOOD_MAX {
            let mut pushed = vec![queue.push(good(flood))];
            if number % 100 == 0 {
                pushed.push(queue.push(good(quiet)));
            }
            for pushed in pushed {
                if let Pushed::Shed(records) = pushed {
                    shed.extend(records);
                }
            }
        }
        assert!(!shed.is_empty() && shed.iter().all(|record| record.target.app == flood));
        let batch = queue.take(400, 400);
        let of_quiet = batch.records.iter().filter(|record| record.target.app == quiet).count();
        assert_eq!(of_quiet, 4 * GOOD_MAX / 100 + 1, "all of it comes within its turns");
        assert_eq!(queue.take(usize::MAX, usize::MAX).records.len(), GOOD_MAX - 400);
        assert!(queue.is_empty() && queue.good.turns.is_empty() && queue.good.log_bytes == 0);
    }

    #[test]
    fn one_apps_long_logs_take_no_room_from_another() {
        let (mut queue, flood, quiet) = (Queue::default(), AppId::new(), AppId::new());
        for _ in 0..8 {
            queue.push(with_logs(good(flood), GOOD_LOG_BYTES_MAX / 8));
        }
        assert!(matches!(queue.push(with_logs(good(flood), 100)), Pushed::Shed(new) if new.len() == 1));
        let Pushed::Shed(shed) = queue.push(with_logs(good(quiet), 100)) else { panic!("nothing was shed") };
        assert!(shed.len() == 1 && shed[0].target.app == flood);
        assert_eq!(queue.good.log_bytes, GOOD_LOG_BYTES_MAX / 8 * 7 + 100);
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
