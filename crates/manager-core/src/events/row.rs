//! An event as its dispatcher holds it.

use std::sync::Arc;

use shared::cause::Cause;
use shared::id::{AppId, DeadLetterId, DeliveryId, ScriptId, TriggerId};
use uuid::Uuid;

use super::event::{EventKind, Payload};
use super::retry::RetryPolicy;

/// Parts of the outbox, each of which has one dispatcher at a time.
pub(crate) const SHARDS: u8 = 16;
/// What a row costs in memory besides its payload.
const ROW_BYTES: usize = 512;

/// The part of the outbox that an app's events are in. Ids end in random bits.
pub(crate) const fn shard_of(app: AppId) -> u8 {
    app.to_bytes()[15] % SHARDS
}

/// What is to happen when an event cannot be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is tried again, and becomes a dead letter in the end.
    Event,
    /// It is about a dead letter: its failure is noted there.
    Handler,
    /// Somebody waits for the answer, and is told.
    Awaited,
}

/// A row of the outbox: what the dispatcher decides by, and the task itself.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) app: AppId,
    /// Microseconds since the epoch by the database's clock. Each time it is put off it is another,
    /// so with the id it names one stay in memory.
    pub(crate) due_us: i64,
    /// When it was written, by the same clock: whatever waits for it was written later.
    pub(crate) enqueued_us: i64,
    pub(crate) attempts: u16,
    pub(crate) strikes: u16,
    pub(crate) retry: RetryPolicy,
    /// It may have run before, under an owner that died.
    pub(crate) is_suspect: bool,
    pub(crate) is_ordered: bool,
    pub(crate) role: Role,
    pub(crate) task: Arc<Task>,
}

impl Row {
    pub(crate) const fn shard(&self) -> u8 {
        shard_of(self.app)
    }

    pub(crate) fn bytes(&self) -> usize {
        ROW_BYTES + self.task.payload.as_bytes().len()
    }
}

/// What is to be run.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) delivery: DeliveryId,
    pub(crate) kind: EventKind,
    pub(crate) trigger: Option<TriggerId>,
    pub(crate) script: ScriptId,
    pub(crate) version: Option<u32>,
    pub(crate) cause: Cause,
    pub(crate) reply_to: Option<Uuid>,
    pub(crate) replay_of: Option<DeliveryId>,
    pub(crate) handles: Option<DeadLetterId>,
    pub(crate) payload: Payload,
}

impl Task {
    pub(crate) const fn role(&self) -> Role {
        if self.reply_to.is_some() {
            Role::Awaited
        } else if self.handles.is_some() {
            Role::Handler
        } else {
            Role::Event
        }
    }
}
