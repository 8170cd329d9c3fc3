//! Runs a trigger by hand, as if what it waits for had happened.

use std::sync::Arc;

use axum::extract::{Path, State};
use chrono::Utc;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::fault::Code;
use shared::limits::MESSAGE_BYTES_MAX;

use super::Admin;
use super::later::Later;
use super::problem::ApiError;
use super::queues::Accepted;
use super::read::Json;
use super::triggers::{find, label, parse_id};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::events::cron::About;
use crate::events::triggers::TriggerConfig;
use crate::events::{EventKind, NewEvent, Payload};
use crate::store::apps::App;

/// What is to have happened.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RunBody {
    /// The map that the script finds in `ctx.event` under the name of the kind. A cron trigger needs
    /// none: it runs as if its time had come.
    event: Option<Map<String, Value>>,
}

/// The event goes the way of every other: it is tried again when it fails, and given up in the end.
pub(super) async fn run(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, id)): Path<(String, String)>,
    Json(body): Json<RunBody>,
) -> Result<Later<Accepted>, ApiError> {
    let id = parse_id(&id)?;
    let mut tx = admin.database.begin().await?;
    let trigger = find(&mut tx, &app, id).await?;
    if !trigger.enabled {
        return Err(ApiError::new(Code::Conflict, "the trigger is switched off; its events would only wait"));
    }
    let kind = EventKind::from(trigger.kind);
    let payload = match (body.event, &trigger.config) {
        (Some(event), _) => Payload::new(kind, &checked(event)?),
        (None, TriggerConfig::Cron(config)) => {
            Payload::new(kind, &About::new(&config.schedule, &config.timezone, Utc::now(), 0))
        }
        (None, _) => {
            let detail =
                format!("say in event what happened: the map ctx.event.{} of the script", kind.as_str());
            return Err(ApiError::invalid(detail).with("field", "event"));
        }
    };
    let payload = payload.map_err(|error| ApiError::invalid(error.to_string()).with("field", "event"))?;
    let event = NewEvent::first(app.id, trigger.script_id, kind, payload);
    let event = NewEvent { trigger: Some(trigger.id), retry: trigger.retry.into(), ..event };
    let accepted = Accepted { id: event.delivery };
    let pending = admin.outbox.insert(&mut tx, vec![event]).await?;
    audit::append(&mut tx, Entry::new(&principal, "trigger.run", label(&trigger)).on(app.id)).await?;
    tx.commit().await?;
    pending.hand_over();
    Ok(Later(accepted))
}

fn checked(event: Map<String, Value>) -> Result<Value, ApiError> {
    let event = Value::Object(event);
    if event.to_string().len() > MESSAGE_BYTES_MAX {
        let detail = format!("an event has {MESSAGE_BYTES_MAX} bytes of JSON at most");
        return Err(ApiError::new(Code::BodyTooLarge, detail).with("field", "event"));
    }
    Ok(event)
}
