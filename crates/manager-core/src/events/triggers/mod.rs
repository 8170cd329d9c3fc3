//! Triggers: what makes a script run besides requests. Each kind has a file, which says what it can
//! be set to and what it does; [`TriggerTable`] is all of them in memory, for whoever asks what a
//! change or a message leads to.

pub(crate) mod changes;
pub(crate) mod cron;
pub(crate) mod dead_letter;
mod glob;
pub(crate) mod pubsub;
pub(crate) mod queue;
mod registrant;
mod retry;
mod table;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod webhook;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::limits::TRIGGER_CONFIG_BYTES_MAX;

use self::changes::{DocsConfig, FilesConfig, KvConfig};
use self::cron::CronConfig;
use self::dead_letter::DeadLetterConfig;
use self::pubsub::PubsubConfig;
use self::queue::QueueConfig;
use self::webhook::WebhookConfig;

pub(crate) use self::registrant::Registrant;
pub(crate) use self::retry::{Backoff, RetryPatch, RetryPolicy};
pub(crate) use self::table::{Trigger, TriggerTable};

/// What a trigger waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A time.
    Cron,
    /// A change in a key-value collection.
    Kv,
    /// A change in a collection of documents.
    Docs,
    /// A change in a collection of files.
    Files,
    /// A message on a topic, which every trigger of the topic gets.
    Pubsub,
    /// A message in a queue, which has one consumer.
    Queue,
    /// An event that was given up on.
    DeadLetter,
    /// A signed request from somebody else's server.
    Webhook,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Cron,
        Self::Kv,
        Self::Docs,
        Self::Files,
        Self::Pubsub,
        Self::Queue,
        Self::DeadLetter,
        Self::Webhook,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Cron => "cron",
            Self::Kv => "kv",
            Self::Docs => "docs",
            Self::Files => "files",
            Self::Pubsub => "pubsub",
            Self::Queue => "queue",
            Self::DeadLetter => "dead_letter",
            Self::Webhook => "webhook",
        }
    }
}

/// A word that names no kind of trigger.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no kind of trigger; there are cron, kv, docs, files, pubsub, queue, dead_letter and webhook"
)]
pub(crate) struct UnknownKind(String);

impl std::str::FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let named = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        named.ok_or_else(|| UnknownKind(text.chars().take(40).collect()))
    }
}

/// What a trigger is set to, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum TriggerConfig {
    Cron(CronConfig),
    Kv(KvConfig),
    Docs(DocsConfig),
    Files(FilesConfig),
    Pubsub(PubsubConfig),
    Queue(QueueConfig),
    DeadLetter(DeadLetterConfig),
    Webhook(WebhookConfig),
}

/// A trigger cannot be set to this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct InvalidConfig {
    /// Below `config`; empty for all of it.
    pub(crate) field: String,
    pub(crate) detail: String,
}

impl InvalidConfig {
    pub(crate) fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

impl TriggerConfig {
    /// Reads and checks what a trigger of this kind is to be set to.
    pub(crate) fn parse(kind: Kind, config: &Value) -> Result<Self, InvalidConfig> {
        if config.to_string().len() > TRIGGER_CONFIG_BYTES_MAX {
            let detail = format!("config is over {TRIGGER_CONFIG_BYTES_MAX} bytes");
            return Err(InvalidConfig::new("", detail));
        }
        Ok(match kind {
            Kind::Cron => Self::Cron(read::<CronConfig>(config)?.checked()?),
            Kind::Kv => Self::Kv(read::<KvConfig>(config)?.checked()?),
            Kind::Docs => Self::Docs(read::<DocsConfig>(config)?.checked()?),
            Kind::Files => Self::Files(read::<FilesConfig>(config)?.checked()?),
            Kind::Pubsub => Self::Pubsub(read(config)?),
            Kind::Queue => Self::Queue(read::<QueueConfig>(config)?.checked()?),
            Kind::DeadLetter => Self::DeadLetter(read(config)?),
            Kind::Webhook => Self::Webhook(read::<WebhookConfig>(config)?.checked()?),
        })
    }

    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Cron(_) => Kind::Cron,
            Self::Kv(_) => Kind::Kv,
            Self::Docs(_) => Kind::Docs,
            Self::Files(_) => Kind::Files,
            Self::Pubsub(_) => Kind::Pubsub,
            Self::Queue(_) => Kind::Queue,
            Self::DeadLetter(_) => Kind::DeadLetter,
            Self::Webhook(_) => Kind::Webhook,
        }
    }
}

fn read<'de, T: Deserialize<'de>>(config: &'de Value) -> Result<T, InvalidConfig> {
    if !config.is_object() {
        return Err(InvalidConfig::new("", "config must be an object"));
    }
    serde_path_to_error::deserialize(config).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { "" } else { path.as_str() };
        InvalidConfig::new(path, error.inner().to_string())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_kind_is_set_to_is_shown_with_its_defaults_and_read_again() {
        let least = [
            (Kind::Cron, json!({ "schedule": "0 3 * * *" })),
            (Kind::Kv, json!({ "collection": "users" })),
            (Kind::Docs, json!({ "collection": "*" })),
            (Kind::Files, json!({ "collection": "img-*", "operations": ["create"] })),
            (Kind::Pubsub, json!({ "topic": "orders.*" })),
            (Kind::Queue, json!({ "queue": "mails" })),
            (Kind::DeadLetter, json!({})),
            (Kind::Webhook, json!({ "provider": "github", "secrets": ["HOOK"] })),
        ];
        for (kind, config) in least {
            let read = TriggerConfig::parse(kind, &config).unwrap();
            assert_eq!(read.kind(), kind);
            let shown = serde_json::to_value(&read).unwrap();
            assert_eq!(TriggerConfig::parse(kind, &shown).unwrap(), read, "{shown}");
            assert_eq!(kind.as_str().parse::<Kind>().unwrap(), kind);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }

    #[test]
    fn what_a_kind_cannot_be_set_to_is_refused_by_field() {
        let cases = [
            (Kind::Cron, json!({ "schedule": "0 3 * *" }), "schedule"),
            (Kind::Cron, json!({ "schedule": "0 3 * * *", "timezone": "Mars/Base" }), "timezone"),
            (Kind::Cron, json!({ "schedule": "0 3 * * *", "missed": "some" }), "missed"),
            (Kind::Kv, json!({ "collection": "" }), "collection"),
            (Kind::Kv, json!({ "collection": "a", "operations": ["create"] }), "operations[0]"),
            (Kind::Kv, json!({ "colection": "a" }), "colection"),
            (Kind::Docs, json!({ "collection": "a", "operations": ["set"] }), "operations[0]"),
            (Kind::Pubsub, json!({ "topic": "a.*.b" }), "topic"),
            (Kind::Pubsub, json!({ "topic": "" }), "topic"),
            (Kind::Queue, json!({ "queue": "a b" }), "queue"),
            (Kind::Queue, json!({ "queue": "a", "concurrency": 0 }), "concurrency"),
            (Kind::Webhook, json!({ "provider": "github", "secrets": [] }), "secrets"),
            (Kind::Webhook, json!({ "provider": "hmac", "secrets": ["A"] }), "header"),
            (Kind::Webhook, json!({ "provider": "stripe", "secrets": ["A"], "header": "x" }), "header"),
            (Kind::DeadLetter, json!([]), ""),
        ];
        for (kind, config, field) in cases {
            assert_eq!(TriggerConfig::parse(kind, &config).unwrap_err().field, field, "{config}");
        }
        let long = json!({ "collection": "x".repeat(TRIGGER_CONFIG_BYTES_MAX) });
        assert!(TriggerConfig::parse(Kind::Kv, &long).is_err());
    }
}
