//! Messages on topics: one event for each trigger that listens, or one attempt for each that is made
//! now and never again.

use std::sync::Arc;

use chrono::{SecondsFormat, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use shared::cause::Cause;
use shared::id::{AppId, DeliveryId, ExecutionId};
use shared::invocation::{Invocation, Occasion, Work};
use shared::name::TopicName;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::triggers::{Trigger, TriggerTable};
use super::{DEPTH_MAX, EventKind, LateInvoke, NewEvent, Payload};

/// Ephemeral messages that are being handled. More are dropped, as their senders know.
const EPHEMERAL_MAX: usize = 256;

/// A message, checked.
#[derive(Debug, Clone)]
pub(crate) struct Message<'a> {
    pub(crate) topic: TopicName,
    /// JSON text.
    pub(crate) message: &'a str,
}

/// What a script sees as `ctx.event.pubsub`.
#[derive(Debug, Serialize)]
struct About<'a> {
    topic: &'a str,
    message: &'a RawValue,
    published_at: String,
}

/// The events of a message, for everybody who listens; it is one thing that happened.
pub(crate) fn events(
    table: &TriggerTable,
    app: AppId,
    message: &Message<'_>,
    cause: impl Fn(DeliveryId) -> Cause,
) -> serde_json::Result<Vec<NewEvent>> {
    let mut receivers = table.on_topic(app, &message.topic).peekable();
    if receivers.peek().is_none() {
        return Ok(Vec::new());
    }
    let payload = payload(message)?;
    let event = |trigger: &Arc<Trigger>| {
        let event = NewEvent::first(app, trigger.target.script, EventKind::Pubsub, payload.clone());
        let cause = cause(event.delivery);
        NewEvent { trigger: Some(trigger.id), retry: trigger.retry.into(), cause, ..event }
    };
    Ok(receivers.map(event).collect())
}

/// Those who listen and could run now.
pub(crate) fn ready<'a>(
    table: &'a TriggerTable,
    app: AppId,
    topic: &'a TopicName,
) -> impl Iterator<Item = &'a Arc<Trigger>> {
    table.on_topic(app, topic).filter(|trigger| trigger.may_run() && !trigger.is_script_disabled)
}

fn payload(message: &Message<'_>) -> serde_json::Result<Payload> {
    let now = Utc::now();
    let about = About {
        topic: message.topic.as_str(),
        message: serde_json::from_str(message.message)?,
        published_at: now.to_rfc3339_opts(SecondsFormat::Millis, true),
    };
    Payload::at(EventKind::Pubsub, Uuid::now_v7(), now, &about)
}

/// Messages that are told once, without being written down.
#[derive(Debug, Clone)]
pub(crate) struct Ephemeral {
    invoke: LateInvoke,
    room: Arc<Semaphore>,
}

impl Ephemeral {
    pub(crate) fn new(invoke: LateInvoke) -> Self {
        Self { invoke, room: Arc::new(Semaphore::new(EPHEMERAL_MAX)) }
    }

    /// Runs the triggers that listen and may run now. Answers how many were started.
    pub(crate) fn publish(
        &self,
        table: &TriggerTable,
        app: AppId,
        message: &Message<'_>,
        cause: Cause,
    ) -> u32 {
        let (Some(invoke), Ok(payload)) = (self.invoke.get(), payload(message)) else { return 0 };
        if cause.depth > DEPTH_MAX {
            return 0;
        }
        let mut started = 0;
        for trigger in ready(table, app, &message.topic) {
            let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
                tracing::debug!(app.id = %app, "ephemeral messages are dropped: too many are being handled");
                break;
            };
            let invocation = invocation(trigger, cause, payload.as_bytes());
            let invoke = Arc::clone(invoke);
            tokio::spawn(async move {
                invoke.invoke(Work::Run(invocation)).await;
                drop(permit);
            });
            started += 1;
        }
        started
    }
}

fn invocation(trigger: &Trigger, cause: Cause, event: &[u8]) -> Invocation {
    let execution = ExecutionId::new();
    let occasion = Occasion {
        invocation_type: EventKind::Pubsub.invocation_type(),
        cause,
        delivery: None,
        principal: trigger.registered_by,
        caller: None,
        http: None,
        event: Some(event),
    };
    let request_id = execution.to_string().into();
    Invocation::new(Arc::clone(&trigger.target), execution, request_id, occasion)
}
