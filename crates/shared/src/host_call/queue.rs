//! Arguments and answers of the calls of `queue`. Messages are JSON text.

use serde::{Deserialize, Serialize};

/// A message for a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send<'a> {
    pub queue: &'a str,
    pub message: &'a str,
    pub delay_ms: u64,
    /// Messages with the same key are handled one after the other, in their order.
    pub key: Option<&'a str>,
    /// The same message under the same word is taken once in 24 hours.
    pub dedup: Option<&'a str>,
}

/// What a message, or a call that runs later, is known by: its delivery's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    pub id: [u8; 16],
}

/// Which queue is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named<'a> {
    pub queue: &'a str,
}

/// How full a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Messages that could be handled now.
    pub ready: u64,
    /// Messages whose time has not come.
    pub delayed: u64,
    /// Messages that are handled now, or tried again later.
    pub in_flight: u64,
    /// How long the first of those that are ready has been.
    pub oldest_ms: u64,
    pub is_paused: bool,
}
