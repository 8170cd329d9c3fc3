//! Queues of an app: how full they are, what is in them, and what is done about it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::cause::Cause;
use shared::fault::Code;
use shared::id::{DeliveryId, TriggerId};
use shared::json_scan;
use shared::limits::{MESSAGE_BYTES_MAX, QUEUE_DELAY_MS_MAX};
use shared::name::{QueueName, ScriptName};

use super::Admin;
use super::later::Later;
use super::page::{Items, PageParams};
use super::problem::ApiError;
use super::read::{Json, Params};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::events;
use crate::events::queues::{Message, SendError};
use crate::events::triggers::{Kind, Trigger, TriggerConfig};
use crate::store;
use crate::store::apps::App;
use crate::store::queues::{Level, MessageView, Place};

/// Messages that one statement throws away; more would hold their locks for long.
const PURGE_BATCH: i64 = 5_000;

/// A queue.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct QueueView {
    name: String,
    /// Messages that could be handled now.
    ready: i64,
    /// Messages whose time has not come.
    delayed: i64,
    /// Messages that are handled now, or tried again later.
    in_flight: i64,
    /// When the first of those that are ready was sent.
    oldest_at: Option<DateTime<Utc>>,
    paused: bool,
    /// What works it off; absent when nothing does.
    consumer: Option<ConsumerView>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ConsumerView {
    trigger_id: TriggerId,
    script: ScriptName,
    concurrency: u16,
}

/// The queues that have messages, a consumer, or are paused, by name.
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<QueueView>>, ApiError> {
    let page = params.page::<String>()?;
    let rows = usize::try_from(page.rows()).unwrap_or_default();
    let table = admin.snapshot.triggers();
    let consumers: BTreeMap<&str, &Trigger> = table
        .of_kind(Kind::Queue)
        .filter(|trigger| trigger.app == app.id)
        .filter_map(|trigger| match &trigger.config {
            TriggerConfig::Queue(config) => Some((config.queue.as_str(), &**trigger)),
            _ => None,
        })
        .collect();
    let ids: Vec<_> = consumers.values().map(|trigger| trigger.id).collect();
    let mut conn = admin.database.acquire().await?;
    let levels = store::queues::levels(&mut conn, app.id, None).await?;
    let in_flight: HashMap<_, _> =
        store::queues::in_flight(&mut conn, app.id, &ids).await?.into_iter().collect();
    let mut levels: BTreeMap<String, Option<Level>> =
        levels.into_iter().map(|level| (level.queue.clone(), Some(level))).collect();
    for name in consumers.keys() {
        levels.entry((*name).to_owned()).or_default();
    }
    let items = levels
        .into_iter()
        .filter(|(name, _)| page.after.as_ref().is_none_or(|after| name > after))
        .take(rows)
        .map(|(name, level)| {
            let consumer = consumers.get(name.as_str()).copied();
            let in_flight = consumer.and_then(|consumer| in_flight.get(&consumer.id)).copied();
            QueueView::new(name, level, consumer, in_flight.unwrap_or_default())
        })
        .collect();
    Ok(JsonBody(page.items(items, |queue: &QueueView| queue.name.clone())))
}

impl QueueView {
    fn new(name: String, level: Option<Level>, consumer: Option<&Trigger>, in_flight: i64) -> Self {
        let consumer = consumer.and_then(|trigger| match &trigger.config {
            TriggerConfig::Queue(config) => Some(ConsumerView {
                trigger_id: trigger.id,
                script: trigger.target.name.clone(),
                concurrency: config.concurrency,
            }),
            _ => None,
        });
        let (ready, delayed, oldest_at, paused) = match level {
            Some(level) => (level.ready, level.delayed, level.oldest_at, level.is_paused),
            None => (0, 0, None, false),
        };
        Self { name, ready, delayed, in_flight, oldest_at, paused, consumer }
    }
}

/// The messages that wait in a queue, in the order in which they will be handled.
pub(super) async fn peek(
    State(admin): State<Arc<Admin>>,
    app: App,
    Path((_, name)): Path<(String, String)>,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<MessageView>>, ApiError> {
    let queue = queue(&name)?;
    let page = params.page::<Place>()?;
    let mut conn = admin.database.acquire().await?;
    let rows = store::queues::peek(&mut conn, app.id, &queue, page.after, page.rows()).await?;
    Ok(JsonBody(page.items(rows, |message| message.place.to_string())))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMessage {
    /// Any JSON, up to 256 KiB.
    #[schemars(with = "serde_json::Value")]
    message: Box<RawValue>,
    /// How long it is kept back.
    #[serde(default)]
    #[schemars(range(max = QUEUE_DELAY_MS_MAX))]
    delay_ms: u64,
    /// Messages with the same key are handled one after the other.
    key: Option<String>,
    /// The same message under the same word is taken once in 24 hours.
    dedup: Option<String>,
}

/// The message as its delivery.
#[derive(Serialize, JsonSchema)]
pub(super) struct Accepted {
    /// What the script will see as `ctx.delivery.id`.
    pub(super) id: DeliveryId,
}

pub(super) async fn send(
    State(admin): State<Arc<Admin>>,
    app: App,
    Path((_, name)): Path<(String, String)>,
    Json(body): Json<NewMessage>,
) -> Result<Later<Accepted>, ApiError> {
    let queue = queue(&name)?;
    let NewMessage { message, delay_ms, key, dedup } = body;
    let message = message.get();
    if message.len() > MESSAGE_BYTES_MAX {
        let detail = format!("a message has {MESSAGE_BYTES_MAX} bytes of JSON at most");
        return Err(ApiError::new(Code::BodyTooLarge, detail).with("field", "message"));
    }
    json_scan::check(message)
        .map_err(|error| ApiError::invalid(format!("message: {error}")).with("field", "message"))?;
    let message = Message { queue: &queue, message, delay_ms, key: key.as_deref(), dedup: dedup.as_deref() };
    let mut tx = admin.database.begin().await?;
    let sent = admin.queues.send(&mut tx, app.id, message, Cause::root_event).await?;
    tx.commit().await?;
    Ok(Later(Accepted { id: sent.tell() }))
}

pub(super) async fn pause(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    set_paused(&admin, &principal, &app, &queue(&name)?, true).await
}

pub(super) async fn resume(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let queue = queue(&name)?;
    let done = set_paused(&admin, &principal, &app, &queue, false).await;
    admin.queues.look(app.id, queue);
    done
}

async fn set_paused(
    admin: &Admin,
    principal: &Principal,
    app: &App,
    queue: &QueueName,
    is_paused: bool,
) -> Result<StatusCode, ApiError> {
    let mut tx = admin.database.begin().await?;
    if store::queues::set_paused(&mut tx, app.id, queue, is_paused).await? {
        let action = if is_paused { "queue.pause" } else { "queue.resume" };
        audit::append(&mut tx, Entry::new(principal, action, queue).on(app.id)).await?;
    }
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How many messages something was done with.
#[derive(Serialize, JsonSchema)]
pub(super) struct Done {
    messages: u64,
}

/// Throws away what waits; what is handled already goes on.
pub(super) async fn purge(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, name)): Path<(String, String)>,
) -> Result<JsonBody<Done>, ApiError> {
    let queue = queue(&name)?;
    let mut messages = 0;
    // In batches of a transaction each, so that nobody waits long; what comes meanwhile may stay.
    for _ in 0..=shared::limits::QUEUE_MESSAGES_MAX / PURGE_BATCH.unsigned_abs() {
        let mut tx = admin.database.begin().await?;
        let purged = store::queues::purge(&mut tx, app.id, &queue, PURGE_BATCH).await?;
        if purged.messages > 0 {
            audit::append(&mut tx, Entry::new(&principal, "queue.purge", &queue).on(app.id)).await?;
        }
        tx.commit().await?;
        admin.queues.purged(app.id, purged);
        messages += purged.messages;
        if purged.messages < PURGE_BATCH.unsigned_abs() {
            break;
        }
    }
    Ok(JsonBody(Done { messages }))
}

/// Gives messages that were given up to the consumer that the queue has now, at most a thousand of them.
pub(super) async fn redrive(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, name)): Path<(String, String)>,
) -> Result<JsonBody<Done>, ApiError> {
    let queue = queue(&name)?;
    let triggers = admin.snapshot.triggers();
    let consumer = triggers.consumer(app.id, &queue).and_then(|consumer| match &consumer.config {
        TriggerConfig::Queue(config) => Some((consumer, config)),
        _ => None,
    });
    let (consumer, config) = consumer.ok_or_else(|| {
        ApiError::new(Code::Conflict, "the queue has no consumer that could try its messages again")
    })?;
    let mut tx = admin.database.begin().await?;
    let replayed = events::redrive(&mut tx, &admin.outbox, consumer, config).await?;
    let messages = replayed.deliveries.len() as u64;
    if messages > 0 {
        audit::append(&mut tx, Entry::new(&principal, "queue.redrive", &queue).on(app.id)).await?;
    }
    tx.commit().await?;
    replayed.pending.hand_over();
    Ok(JsonBody(Done { messages }))
}

fn queue(name: &str) -> Result<QueueName, ApiError> {
    name.parse().map_err(|error| ApiError::invalid(format!("{error}")).with("field", "name"))
}

impl From<SendError> for ApiError {
    fn from(error: SendError) -> Self {
        let field = match error {
            SendError::Database(error) => return error.into(),
            SendError::Full => return Self::new(Code::TooManyRequests, error.to_string()).retry_after(60),
            SendError::OtherMessage => {
                return Self::new(Code::Conflict, error.to_string()).with("field", "dedup");
            }
            SendError::DelayTooLong => "delay_ms",
            SendError::InvalidKey => "key",
        };
        Self::invalid(error.to_string()).with("field", field)
    }
}
