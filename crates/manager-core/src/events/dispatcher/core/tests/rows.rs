//! Rows of the simulated world.

use std::sync::Arc;

use shared::cause::Cause;
use shared::id::{AppId, DeadLetterId, DeliveryId, ExecutionId, ScriptId};
use uuid::Uuid;

use super::super::super::super::event::{EventKind, Payload};
use super::super::super::super::retry::RetryPolicy;
use super::super::super::super::row::Task;
use super::super::Row;

/// A row that is written, and due, at this time.
pub(super) fn row(id: i64, app: AppId, now_us: i64, max_attempts: u16, is_handler: bool) -> Row {
    let task = Task {
        delivery: DeliveryId::from_uuid(Uuid::from_u128(id.unsigned_abs().into())),
        kind: EventKind::Queue,
        trigger: None,
        script: ScriptId::from_uuid(Uuid::from_u128(app.as_uuid().as_u128())),
        version: None,
        cause: Cause::root(ExecutionId::from_uuid(Uuid::nil())),
        reply_to: None,
        replay_of: None,
        handles: is_handler.then(|| DeadLetterId::from_uuid(Uuid::nil())),
        payload: Payload::from_stored(Vec::new()),
    };
    Row {
        id,
        app,
        due_us: now_us,
        enqueued_us: now_us,
        attempts: 0,
        strikes: 0,
        retry: RetryPolicy { max_attempts, base_ms: 100, cap_ms: 1_000 },
        is_suspect: false,
        is_ordered: false,
        role: task.role(),
        task: Arc::new(task),
    }
}

/// The same with a payload of so many bytes.
pub(super) fn large_row(id: i64, app: AppId, now_us: i64, bytes: usize) -> Row {
    let row = row(id, app, now_us, 1, false);
    let task = Task { payload: Payload::from_stored(vec![0; bytes]), ..(*row.task).clone() };
    Row { task: Arc::new(task), ..row }
}
