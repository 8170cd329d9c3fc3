//! Messages that wait in queues.

mod load;

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::cause::Cause;
use shared::id::{AppId, DeliveryId, TriggerId};
use shared::name::QueueName;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

pub(crate) use self::load::Load;
use super::columns;
use crate::events::{STRIKES_MAX, shard_of};

/// Where nodes tell the owner of an app's shard which of its queues to look at.
pub(crate) const CHANNEL: &str = "picloud_queues";

/// A message to be kept until its consumer has room for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewMessage<'a> {
    pub(crate) app: AppId,
    pub(crate) queue: &'a QueueName,
    pub(crate) delivery: DeliveryId,
    /// JSON text.
    pub(crate) message: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) delay_ms: u64,
    pub(crate) cause: Cause,
}

/// A message on its way to its consumer.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) delivery: DeliveryId,
    pub(crate) message: String,
    pub(crate) key: Option<String>,
    pub(crate) enqueued_at: DateTime<Utc>,
    pub(crate) cause: Cause,
    /// As they were counted while it waited.
    pub(crate) bytes: u32,
}

impl FromRow<'_, PgRow> for Message {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            delivery: row.try_get("delivery_id")?,
            message: row.try_get("message")?,
            key: row.try_get("key")?,
            enqueued_at: row.try_get("enqueued_at")?,
            cause: Cause {
                root: row.try_get("root_id")?,
                parent: row.try_get("parent_id")?,
                depth: columns::count(row, "depth")?,
            },
            bytes: columns::count(row, "bytes")?,
        })
    }
}

/// Where a message stands in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    due_at: DateTime<Utc>,
    id: i64,
}

/// A text that names no place.
#[derive(Debug, thiserror::Error)]
#[error("this is no place in a queue")]
pub(crate) struct NoPlace;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.due_at.timestamp_micros(), self.id)
    }
}

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (due, id) = text.split_once('.').ok_or(NoPlace)?;
        let due_at = due.parse().ok().and_then(DateTime::from_timestamp_micros).ok_or(NoPlace)?;
        Ok(Self { due_at, id: id.parse().map_err(|_| NoPlace)? })
    }
}

/// A message as people look at it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct MessageView {
    /// What the script will see as `ctx.delivery.id`.
    pub(crate) id: DeliveryId,
    #[serde(skip)]
    pub(crate) place: Place,
    pub(crate) key: Option<String>,
    pub(crate) message: Box<RawValue>,
    pub(crate) enqueued_at: DateTime<Utc>,
    /// Not before this time.
    pub(crate) due_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for MessageView {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let message: String = row.try_get("message")?;
        Ok(Self {
            id: row.try_get("delivery_id")?,
            place: Place { due_at: row.try_get("due_at")?, id: row.try_get("id")? },
            key: row.try_get("key")?,
            message: RawValue::from_string(message).map_err(|error| columns::malformed("message", error))?,
            enqueued_at: row.try_get("enqueued_at")?,
            due_at: row.try_get("due_at")?,
        })
    }
}

/// How full a queue is.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct Level {
    pub(crate) queue: String,
    pub(crate) ready: i64,
    pub(crate) delayed: i64,
    /// When the first of those that are ready was sent.
    pub(crate) oldest_at: Option<DateTime<Utc>>,
    pub(crate) is_paused: bool,
}

/// A queue with messages in it.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) app_id: AppId,
    pub(crate) queue: String,
    pub(crate) load: Load,
    /// Seconds until the first is due; negative when it is.
    pub(crate) due_in_s: f64,
}

impl FromRow<'_, PgRow> for Backlog {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            app_id: row.try_get("app_id")?,
            queue: row.try_get("queue")?,
            load: Load::from_row(row)?,
            due_in_s: row.try_get("due_in_s")?,
        })
    }
}

pub(crate) async fn insert(conn: &mut PgConnection, new: &NewMessage<'_>) -> sqlx::Result<()> {
    sqlx::query(
        "insert into queue_messages (app_id, queue, delivery_id, message, key, due_at, root_id, parent_id,
                                     depth, bytes)
         values ($1, $2, $3, $4, $5, clock_timestamp() + $6 * interval '1 millisecond', $7, $8, $9, $10)",
    )
    .bind(new.app)
    .bind(new.queue.as_str())
    .bind(new.delivery)
    .bind(new.message)
    .bind(new.key)
    .bind(i64::try_from(new.delay_ms).unwrap_or(i64::MAX))
    .bind(new.cause.root)
    .bind(new.cause.parent)
    .bind(i32::try_from(new.cause.depth).unwrap_or(i32::MAX))
    .bind(i32::try_from(Load::of_one(new.message, new.key).bytes).unwrap_or(i32::MAX))
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes messages out of a queue that are due, the first ones first; none when it is paused. Two that
/// take at once take different ones.
pub(crate) async fn take(
    conn: &mut PgConnection,
    app: AppId,
    queue: &QueueName,
    limit: u32,
) -> sqlx::Result<Vec<Message>> {
    sqlx::query_as(
        "with due as materialized (
             select app_id, queue, id
             from queue_messages
             where app_id = $1
               and queue = $2
               and due_at <= statement_timestamp()
               and not exists (select 1 from paused_queues p where p.app_id = $1 and p.queue = $2)
             order by due_at, id
             limit $3
             for update skip locked
         ), taken as (
             delete from queue_messages m
             using due d
             where m.app_id = d.app_id and m.queue = d.queue and m.id = d.id
             returning m.id, m.due_at, m.delivery_id, m.message, m.key, m.enqueued_at, m.root_id,
                       m.parent_id, m.depth, m.bytes
         )
         select delivery_id, message, key, enqueued_at, root_id, parent_id, depth, bytes
         from taken
         order by due_at, id",
    )
    .bind(app)
    .bind(queue.as_str())
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await
}

/// In how many seconds the next message of a queue is due.
pub(crate) async fn next_due_s(
    conn: &mut PgConnection,
    app: AppId,
    queue: &QueueName,
) -> sqlx::Result<Option<f64>> {
    sqlx::query_scalar(
        "select extract(epoch from min(due_at) - statement_timestamp())::float8
         from queue_messages
         where app_id = $1 and queue = $2",
    )
    .bind(app)
    .bind(queue.as_str())
    .fetch_one(conn)
    .await
}

/// Every queue that has messages. An index has all that is asked, so that as many as there may be are counted in
/// milliseconds.
pub(crate) async fn backlogs(conn: &mut PgConnection) -> sqlx::Result<Vec<Backlog>> {
    sqlx::query_as(
        "select app_id, queue, count(*) as messages, sum(bytes) as bytes,
                extract(epoch from min(due_at) - statement_timestamp())::float8 as due_in_s
         from queue_messages
         group by app_id, queue",
    )
    .fetch_all(conn)
    .await
}

/// How full the queues of an app are: those that have messages, and those that are paused.
pub(crate) async fn levels(
    conn: &mut PgConnection,
    app: AppId,
    queue: Option<&QueueName>,
) -> sqlx::Result<Vec<Level>> {
    sqlx::query_as(
        "select coalesce(m.queue, p.queue) as queue,
                coalesce(m.ready, 0) as ready,
                coalesce(m.delayed, 0) as delayed,
                m.oldest_at,
                p.queue is not null as is_paused
         from (
             select queue,
                    count(*) filter (where due_at <= statement_timestamp()) as ready,
                    count(*) filter (where due_at > statement_timestamp()) as delayed,
                    min(enqueued_at) filter (where due_at <= statement_timestamp()) as oldest_at
             from queue_messages
             where app_id = $1 and ($2::text is null or queue = $2)
             group by queue
         ) m
         full join (
             select queue from paused_queues where app_id = $1 and ($2::text is null or queue = $2)
         ) p on p.queue = m.queue
         order by 1",
    )
    .bind(app)
    .bind(queue.map(QueueName::as_str))
    .fetch_all(conn)
    .await
}

/// Messages of triggers that are handled now, or are tried again later.
pub(crate) async fn in_flight(
    conn: &mut PgConnection,
    app: AppId,
    triggers: &[TriggerId],
) -> sqlx::Result<Vec<(TriggerId, i64)>> {
    let ids: Vec<_> = triggers.iter().map(|trigger| trigger.as_uuid()).collect();
    sqlx::query_as(
        "select trigger_id, count(*)
         from outbox
         where shard = $1 and app_id = $2 and trigger_id = any($3)
         group by trigger_id",
    )
    .bind(i16::from(shard_of(app)))
    .bind(app)
    .bind(ids)
    .fetch_all(conn)
    .await
}

/// Messages in these shards that were moved to the outbox and whose first attempt has not ended. What
/// ended the platform each time has no other one, and what is tried again came from no queue.
pub(crate) async fn unattempted(
    conn: &mut PgConnection,
    shards: &[u8],
) -> sqlx::Result<Vec<(AppId, TriggerId, i64)>> {
    let shards: Vec<i16> = shards.iter().copied().map(i16::from).collect();
    sqlx::query_as(
        "select app_id, trigger_id, count(*)
         from outbox
         where shard = any($1)
           and kind = 'queue'
           and attempts = 0
           and strikes < $2
           and trigger_id is not null
           and replay_of is null
         group by app_id, trigger_id",
    )
    .bind(shards)
    .bind(i32::from(STRIKES_MAX))
    .fetch_all(conn)
    .await
}

/// Messages of a queue in the order in which they will be handled, those after `after`.
pub(crate) async fn peek(
    conn: &mut PgConnection,
    app: AppId,
    queue: &QueueName,
    after: Option<Place>,
    limit: i64,
) -> sqlx::Result<Vec<MessageView>> {
    sqlx::query_as(
        "select delivery_id, id, key, message, enqueued_at, due_at
         from queue_messages
         where app_id = $1
           and queue = $2
           and ($3::timestamptz is null or (due_at, id) > ($3, $4))
         order by due_at, id
         limit $5",
    )
    .bind(app)
    .bind(queue.as_str())
    .bind(after.map(|place| place.due_at))
    .bind(after.map(|place| place.id))
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// Throws messages of a queue away, at most `limit`; answers how many, and what they took.
pub(crate) async fn purge(
    conn: &mut PgConnection,
    app: AppId,
    queue: &QueueName,
    limit: i64,
) -> sqlx::Result<Load> {
    sqlx::query_as(
        "with gone as (
             delete from queue_messages
             where (app_id, queue, id) in (
                 select app_id, queue, id
                 from queue_messages
                 where app_id = $1 and queue = $2
                 order by due_at, id
                 limit $3
                 for update skip locked
             )
             returning bytes
         )
         select count(*) as messages, coalesce(sum(bytes), 0) as bytes
         from gone",
    )
    .bind(app)
    .bind(queue.as_str())
    .bind(limit)
    .fetch_one(conn)
    .await
}

/// Stops a queue or lets it go on; false when it is so already.
pub(crate) async fn set_paused(
    conn: &mut PgConnection,
    app: AppId,
    queue: &QueueName,
    is_paused: bool,
) -> sqlx::Result<bool> {
    let statement = match is_paused {
        true => "insert into paused_queues (app_id, queue) values ($1, $2) on conflict do nothing",
        false => "delete from paused_queues where app_id = $1 and queue = $2",
    };
    let done = sqlx::query(statement).bind(app).bind(queue.as_str()).execute(conn).await?;
    Ok(done.rows_affected() == 1)
}
