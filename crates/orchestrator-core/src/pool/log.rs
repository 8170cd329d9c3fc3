//! What an execution says in its log, as far as its limits leave room.

use shared::host_call::{LogLevel, LogLine};
use shared::invocation::LogEntry;
use shared::limits::{LOG_BYTES_MAX, LOG_LINES_MAX};

use super::budget::Resource;
use super::execution::Execution;
use super::violation::Violation;

impl Execution {
    /// Keeps a log line, or as much of it as the limits leave room for.
    pub(super) fn log(&mut self, line: &LogLine<'_>) -> Result<(), Violation> {
        let bytes = line.message.len() + line.data.len();
        if !self.budget.spend(Resource::Notices, 1) || !self.budget.spend(Resource::NoticeBytes, bytes) {
            return Err(Violation::NoticeFlood);
        }
        if self.budget.is_exhausted(Resource::LogBytes) {
            return Ok(());
        }
        let entry =
            if self.budget.spend(Resource::LogLines, 1) && self.budget.spend(Resource::LogBytes, bytes) {
                LogEntry { level: line.level, message: line.message.to_owned(), data: line.data.to_owned() }
            } else {
                self.budget.exhaust(Resource::LogBytes);
                truncation()
            };
        self.logs.push(entry);
        Ok(())
    }
}

/// The last line of a log that was too long.
fn truncation() -> LogEntry {
    LogEntry {
        level: LogLevel::Warn,
        message: format!("log truncated: an execution keeps {LOG_LINES_MAX} lines and {LOG_BYTES_MAX} bytes"),
        data: String::new(),
    }
}
