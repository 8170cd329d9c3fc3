//! Arguments and answers of `atomic::commit`: changes that happen together or not at all.

use serde::{Deserialize, Deserializer, Serialize};

use super::{docs, kv, list, pubsub, queue};
use crate::limits::ATOMIC_OPS_MAX;

/// Something that must hold, or a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op<'a> {
    /// The value is of this version; without one, there is none.
    KvCheck(#[serde(borrow)] kv::Key<'a>, Option<u64>),
    KvSet(#[serde(borrow)] kv::Set<'a>),
    KvDelete(#[serde(borrow)] kv::Key<'a>),
    KvIncr(#[serde(borrow)] kv::Incr<'a>),
    /// The document is of this version; without one, there is none.
    DocsCheck(#[serde(borrow)] docs::Id<'a>, Option<u64>),
    DocsCreate(#[serde(borrow)] docs::Create<'a>),
    DocsUpdate(#[serde(borrow)] docs::Update<'a>),
    DocsDelete(#[serde(borrow)] docs::Id<'a>),
    QueueSend(#[serde(borrow)] queue::Send<'a>),
    PubsubPublish(#[serde(borrow)] pubsub::Publish<'a>),
}

/// What is to be committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit<'a> {
    #[serde(borrow, deserialize_with = "limited_ops")]
    pub ops: Vec<Op<'a>>,
}

fn limited_ops<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Op<'a>>, D::Error> {
    list::at_most(ATOMIC_OPS_MAX, deserializer)
}

/// What one of the operations came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Done<'a> {
    /// There was nothing to be said, or nothing to be changed.
    Nothing,
    Version(u64),
    Sum(i64),
    Existed(bool),
    Id(&'a str),
    /// How many triggers a message reaches.
    Receivers(u32),
}

/// Answer of a commit, in the order of the operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed<'a> {
    #[serde(borrow)]
    pub done: Vec<Done<'a>>,
}
