//! Topics to which somebody outside listens.

/// Messages of a topic that are kept for who was away: about those of a few minutes of a busy one.
pub const REALTIME_HISTORY_MESSAGES_MAX: usize = 1_000;
/// Bytes of them, so that a thousand topics keep half a gigabyte at most.
pub const REALTIME_HISTORY_BYTES_MAX: usize = 512 << 10;
/// Who listens to topics of a node: each is a task and a buffer.
pub const REALTIME_LISTENERS_MAX: usize = 4_096;
/// Those of one app, so that no app takes all places.
pub const REALTIME_APP_LISTENERS_MAX: usize = 1_000;
/// Those of one address, as many as it may have connections: each has 100 streams.
pub const REALTIME_ADDRESS_LISTENERS_MAX: usize = 256;
/// A message that is kept nowhere, on an external topic, as JSON: PostgreSQL's notifications have under 8,000 bytes.
pub const EPHEMERAL_EXTERNAL_BYTES_MAX: usize = 7 << 10;
/// Topics that one subscriber token is for.
pub const SUBSCRIBER_TOKEN_TOPICS_MAX: usize = 32;
/// How long a subscriber token may be good: it cannot be taken back by itself, so a day.
pub const SUBSCRIBER_TOKEN_S_MAX: u32 = 24 * 60 * 60;
