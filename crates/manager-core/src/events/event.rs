//! What happens, as it is written down for the scripts that are to run for it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use shared::cause::Cause;
use shared::guest_abi::InvocationType;
use shared::id::{AppId, DeadLetterId, DeliveryId, ScriptId, TriggerId};
use uuid::Uuid;

use super::retry::RetryPolicy;

pub(crate) use shared::limits::DEPTH_MAX;

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum EventKind {
    /// A request to a route that does not answer at once.
    Http,
    /// A script called another.
    Function,
    Cron,
    Kv,
    Docs,
    Files,
    Pubsub,
    Queue,
    Email,
    Webhook,
    DeadLetter,
}

impl EventKind {
    pub(crate) const ALL: [Self; 11] = [
        Self::Http,
        Self::Function,
        Self::Cron,
        Self::Kv,
        Self::Docs,
        Self::Files,
        Self::Pubsub,
        Self::Queue,
        Self::Email,
        Self::Webhook,
        Self::DeadLetter,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Function => "function",
            Self::Cron => "cron",
            Self::Kv => "kv",
            Self::Docs => "docs",
            Self::Files => "files",
            Self::Pubsub => "pubsub",
            Self::Queue => "queue",
            Self::Email => "email",
            Self::Webhook => "webhook",
            Self::DeadLetter => "dead_letter",
        }
    }

    /// What the script sees as `ctx.invocation_type`.
    pub(crate) const fn invocation_type(self) -> InvocationType {
        match self {
            Self::Http => InvocationType::Http,
            Self::Function => InvocationType::Function,
            Self::Cron => InvocationType::Schedule,
            _ => InvocationType::Event,
        }
    }
}

/// A text that names no kind of event.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no kind of event")]
pub(crate) struct UnknownKind(String);

impl FromStr for EventKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

/// What a script sees as `ctx.event`: JSON text of `#{kind, id, time}` and one map of the kind's name.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Payload(Vec<u8>);

impl Payload {
    /// The event that happened now, with what is particular to its kind.
    pub(crate) fn new(kind: EventKind, about: &impl Serialize) -> serde_json::Result<Self> {
        Self::at(kind, Uuid::now_v7(), Utc::now(), about)
    }

    pub(crate) fn at(
        kind: EventKind,
        id: Uuid,
        time: DateTime<Utc>,
        about: &impl Serialize,
    ) -> serde_json::Result<Self> {
        let time = time.to_rfc3339_opts(SecondsFormat::Micros, true);
        let mut event = json!({ "kind": kind.as_str(), "id": id, "time": time });
        event[kind.as_str()] = serde_json::to_value(about)?;
        serde_json::to_vec(&event).map(Self)
    }

    /// Bytes that were a payload, or that are one of the kind `http`.
    pub(crate) const fn from_stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For people to look at; what is no JSON, such as a request, is not shown.
    pub(crate) fn to_json(&self) -> Value {
        serde_json::from_slice(&self.0).unwrap_or(Value::Null)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

/// When an event is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Now,
    After(Duration),
}

/// An event for one script, to be written in the transaction of what caused it.
#[derive(Debug, Clone)]
pub(crate) struct NewEvent {
    pub(crate) app: AppId,
    pub(crate) delivery: DeliveryId,
    pub(crate) kind: EventKind,
    /// What made it an event for this script; none for calls and requests.
    pub(crate) trigger: Option<TriggerId>,
    pub(crate) script: ScriptId,
    /// The version to run; none for the one that is live by then.
    pub(crate) version: Option<u32>,
    pub(crate) due: Due,
    pub(crate) retry: RetryPolicy,
    pub(crate) cause: Cause,
    /// Of the events of one script with the same key one runs at a time, in the order in which they
    /// were written.
    pub(crate) order_key: Option<[u8; 16]>,
    /// The process in which somebody waits for the answer: never tried again.
    pub(crate) reply_to: Option<Uuid>,
    pub(crate) replay_of: Option<DeliveryId>,
    /// The dead letter that the event is about: never tried again, never a dead letter itself.
    pub(crate) handles: Option<DeadLetterId>,
    pub(crate) payload: Payload,
}

impl NewEvent {
    /// An event that is due now, with the usual retries.
    pub(crate) fn new(app: AppId, script: ScriptId, kind: EventKind, cause: Cause, payload: Payload) -> Self {
        Self {
            app,
            delivery: DeliveryId::new(),
            kind,
            trigger: None,
            script,
            version: None,
            due: Due::Now,
            retry: RetryPolicy::default(),
            cause,
            order_key: None,
            reply_to: None,
            replay_of: None,
            handles: None,
            payload,
        }
    }

    /// An event that no execution caused, such as a timer's: it begins a chain.
    pub(crate) fn first(app: AppId, script: ScriptId, kind: EventKind, payload: Payload) -> Self {
        let delivery = DeliveryId::new();
        Self { delivery, ..Self::new(app, script, kind, Cause::root_event(delivery), payload) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_names_its_kind_and_has_one_map_of_that_name() {
        let payload = Payload::new(EventKind::Kv, &json!({ "key": "a" })).unwrap().to_json();
        assert_eq!((&payload["kind"], &payload["kv"]["key"]), (&json!("kv"), &json!("a")));
        assert!(payload["id"].is_string() && payload["time"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn every_kind_is_known_by_its_name() {
        for kind in EventKind::ALL {
            assert_eq!(kind.as_str().parse::<EventKind>().unwrap(), kind);
        }
        assert!("mail".parse::<EventKind>().is_err());
    }
}
