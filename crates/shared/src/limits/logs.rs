//! What executions log.

/// Log lines kept with one execution.
pub const LOG_LINES_MAX: u32 = 1_000;
/// Log notices a worker passes on for one execution: the lines, and one that shows there were more.
pub const LOG_NOTICES_MAX: u32 = LOG_LINES_MAX + 1;
/// Bytes of log kept with one execution.
pub const LOG_BYTES_MAX: u32 = 256 << 10;
/// Arguments of a call that nobody waits for: a log line as long as the whole log, and what frames it.
/// The guest sends none that is longer, the worker passes none on, and the parent kills for one.
pub const NOTICE_BYTES_MAX: usize = LOG_BYTES_MAX as usize + 32;

/// Logs of all executions of an app, in bytes as the database stores them: a thousand of the longest, or a few lines of
/// each of a hundred thousand. The disk is everybody's.
pub const LOGS_BYTES_MAX: i64 = 256 << 20;

// Many executions say all that they may before the oldest are silent.
const _: () = assert!(100 * LOG_BYTES_MAX as i64 <= LOGS_BYTES_MAX);
