//! Arguments and answers of the calls of `pubsub`. Messages are JSON text.

use serde::{Deserialize, Serialize};

/// A message for who listens to a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish<'a> {
    pub topic: &'a str,
    pub message: &'a str,
}

/// How many triggers it reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    pub receivers: u32,
}
