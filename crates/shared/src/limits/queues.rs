//! Messages, and queues in which they wait.

/// A message of a queue or a topic, and the arguments of a later call, as JSON: more is a file.
pub const MESSAGE_BYTES_MAX: usize = 256 << 10;
/// Longest delay of a message or of a later call: 14 days, as other queues have it.
pub const QUEUE_DELAY_MS_MAX: u64 = 14 * 24 * 60 * 60 * 1_000;
/// Messages that wait in the queues of an app: a few hours of a busy one.
pub const QUEUE_MESSAGES_MAX: u64 = 100_000;
/// Bytes of them and of their keys: a thousand of the longest, or 2.6 KiB for each. The disk is everybody's.
pub const QUEUES_BYTES_MAX: u64 = 256 << 20;
/// Executions that a queue's consumer may have at once: no more than two workers have slots.
pub const QUEUE_CONCURRENCY_MAX: u16 = 32;

const _: () = assert!(100 * MESSAGE_BYTES_MAX as u64 <= QUEUES_BYTES_MAX);
