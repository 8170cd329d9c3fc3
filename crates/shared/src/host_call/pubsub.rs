//! Arguments and answers of the calls of `pubsub`. Messages are JSON text.

use serde::{Deserialize, Deserializer, Serialize};

use super::list;
use crate::limits::SUBSCRIBER_TOKEN_TOPICS_MAX;

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
    #[serde(borrow, deserialize_with = "limited_topics")]
    pub topics: Vec<&'a str>,
    pub ttl_s: u32,
}

fn limited_topics<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<&'a str>, D::Error> {
    list::at_most(SUBSCRIBER_TOKEN_TOPICS_MAX, deserializer)
}

/// What they show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token<'a> {
    pub token: &'a str,
}
