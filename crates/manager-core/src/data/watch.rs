//! Who watches what apps keep. A change that somebody watches and its events are one transaction: no
//! change without its event, and no event without its change.

use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::call::{CallCode, CallError};
use shared::id::AppId;
use sqlx::postgres::PgConnection;

use super::messages::not_accepted;
use super::{Access, Told};
use crate::events::triggers::changes::{Operation, Service};
use crate::events::triggers::{Trigger, TriggerConfig};
use crate::events::{EventKind, NewEvent, Outbox, Payload, Pending};
use crate::snapshot::Snapshot;

/// The door from changes to events, as a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    snapshot: Arc<Snapshot>,
    outbox: Outbox,
}

/// What was changed, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change<'a> {
    pub(super) app: AppId,
    pub(super) service: Service,
    pub(super) operation: Operation,
    pub(super) collection: &'a str,
    /// The key or the id.
    pub(super) name: &'a str,
}

impl Watch {
    pub(crate) const fn new(snapshot: Arc<Snapshot>, outbox: Outbox) -> Self {
        Self { snapshot, outbox }
    }

    /// Those who are to be told of a change. Asked at each change, so the answer is in memory.
    pub(super) fn watchers(&self, change: &Change<'_>) -> Vec<Arc<Trigger>> {
        let Change { app, service, operation, collection, .. } = *change;
        self.snapshot.triggers().on_change(app, service, collection, operation).cloned().collect()
    }

    /// Writes the events of a change. Values are JSON text.
    pub(super) async fn tell(
        &self,
        conn: &mut PgConnection,
        (change, access): (&Change<'_>, &Access<'_>),
        watchers: &[Arc<Trigger>],
        (value, prev): (Option<&str>, Option<&str>),
        told: &mut Told,
    ) -> Result<(), CallError> {
        let kind = EventKind::from(change.service.kind());
        let payload = Payload::new(kind, &about(change, value, prev)).map_err(|error| {
            tracing::error!(%error, "an event cannot be written");
            CallError::new(CallCode::Internal, "the platform failed")
        })?;
        access.take_events(watchers.len())?;
        let event = |trigger: &Arc<Trigger>| {
            let event = NewEvent::first(change.app, trigger.target.script, kind, payload.clone());
            NewEvent {
                trigger: Some(trigger.id),
                cause: access.cause.unwrap_or(event.cause),
                retry: trigger.retry.into(),
                order_key: is_ordered(trigger).then(|| order_key(change)),
                ..event
            }
        };
        told.add(self.emit(conn, watchers.iter().map(event).collect()).await?);
        Ok(())
    }

    /// Writes events.
    pub(super) async fn emit(
        &self,
        conn: &mut PgConnection,
        events: Vec<NewEvent>,
    ) -> Result<Pending, CallError> {
        self.outbox.insert(conn, events).await.map_err(not_accepted)
    }
}

/// What the handler sees as `ctx.event.kv`, `ctx.event.docs`.
fn about(change: &Change<'_>, value: Option<&str>, prev: Option<&str>) -> Value {
    let parsed = |text: Option<&str>| text.and_then(|text| serde_json::from_str::<Value>(text).ok());
    let (name, data) = match change.service {
        Service::Kv => ("key", "value"),
        Service::Docs => ("id", "data"),
        Service::Files => ("id", "meta"),
    };
    json!({
        "collection": change.collection,
        name: change.name,
        "op": change.operation.as_str(),
        data: parsed(value),
        "prev": parsed(prev),
    })
}

/// Whether changes of the same thing are handled one after the other.
fn is_ordered(trigger: &Trigger) -> bool {
    match &trigger.config {
        TriggerConfig::Kv(config) => config.ordered,
        TriggerConfig::Docs(config) => config.ordered,
        TriggerConfig::Files(config) => config.ordered,
        _ => false,
    }
}

/// Changes of the same thing have the same.
fn order_key(change: &Change<'_>) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in [change.service.kind().as_str(), change.collection, change.name] {
        hash.update(part.as_bytes());
        // In no name.
        hash.update([0]);
    }
    let digest: [u8; 32] = hash.finalize().into();
    digest.first_chunk().copied().unwrap_or_default()
}
