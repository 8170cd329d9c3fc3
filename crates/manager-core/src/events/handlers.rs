//! From dead letters to the events of the triggers that handle them.

use chrono::{SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;
use shared::cause::Cause;
use shared::id::{DeadLetterId, ExecutionId, TriggerId};
use shared::name::ScriptName;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::triggers::TriggerTable;
use super::triggers::dead_letter::Given;
use super::{EventKind, NewEvent, Payload, RetryPolicy};
use crate::store;
use crate::store::dead_letters::DeadLetter;

/// What a script sees as `ctx.event.dead_letter`.
#[derive(Debug, Serialize)]
struct About<'a> {
    id: DeadLetterId,
    /// The event that was given up, as its script saw it.
    original: Value,
    attempts: i16,
    errors: &'a Value,
    trigger_id: Option<TriggerId>,
    script: &'a str,
    reason: &'a str,
    failed_at: String,
}

/// The events for everybody who wants to know of these dead letters.
pub(super) async fn events(
    conn: &mut PgConnection,
    table: &TriggerTable,
    letters: &[DeadLetter],
) -> sqlx::Result<Vec<NewEvent>> {
    let mut events = Vec::new();
    for letter in letters {
        let known = match letter.trigger_id.and_then(|id| table.get(id)) {
            Some(trigger) if trigger.target.script == letter.script_id => Some(trigger.target.name.clone()),
            _ => store::scripts::name_of(conn, letter.app_id, letter.script_id).await?,
        };
        // One whose script is gone has no name by which a handler could mean it; it is told all the same.
        let name = known.unwrap_or_else(gone);
        events.extend(of_letter(table, letter, &name));
    }
    Ok(events)
}

fn gone() -> ScriptName {
    "removed".parse().expect("this is a name")
}

fn of_letter(table: &TriggerTable, letter: &DeadLetter, script: &ScriptName) -> Vec<NewEvent> {
    let kind = letter.kind.parse::<EventKind>().ok().and_then(EventKind::of_trigger);
    let given = Given { kind, trigger: letter.trigger_id, script };
    let handlers: Vec<_> = table.on_dead_letter(letter.app_id, given).collect();
    // What was given up may have megabytes, and most of it nobody wants to know of.
    if handlers.is_empty() {
        return Vec::new();
    }
    let cause = Cause {
        root: letter.root_id,
        // Its first attempt has the id of its delivery, and the others are recorded under it.
        parent: Some(ExecutionId::from_uuid(letter.delivery_id.as_uuid())),
        // As deep as what failed: its handler is to run although it was the last of its chain.
        depth: u32::try_from(letter.depth).unwrap_or_default(),
    };
    let about = About {
        id: letter.id,
        original: Payload::from_stored(letter.payload.clone()).to_json(),
        attempts: letter.attempts,
        errors: &letter.errors,
        trigger_id: letter.trigger_id,
        script: script.as_str(),
        reason: &letter.reason,
        failed_at: letter.failed_at.to_rfc3339_opts(SecondsFormat::Millis, true),
    };
    let Ok(payload) = Payload::at(EventKind::DeadLetter, Uuid::now_v7(), Utc::now(), &about) else {
        return Vec::new();
    };
    handlers
        .into_iter()
        .map(|handler| {
            let (app, script) = (handler.app, handler.target.script);
            let event = NewEvent::new(app, script, EventKind::DeadLetter, cause, payload.clone());
            NewEvent {
                trigger: Some(handler.id),
                retry: RetryPolicy::ONCE,
                handles: Some(letter.id),
                ..event
            }
        })
        .collect()
}
