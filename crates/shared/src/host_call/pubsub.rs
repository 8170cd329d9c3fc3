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

/// Topics to which somebody outside is to be let, for so many seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriberToken<'a> {
    #[serde(borrow)]
    pub topics: Vec<&'a str>,
    pub ttl_s: u32,
}

/// What they show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token<'a> {
    pub token: &'a str,
}
