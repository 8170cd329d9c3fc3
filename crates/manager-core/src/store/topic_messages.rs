//! What was published on topics that somebody outside may listen to.

use chrono::{DateTime, Utc};
use shared::id::AppId;
use shared::limits::{REALTIME_HISTORY_BYTES_MAX, REALTIME_HISTORY_MESSAGES_MAX};
use shared::name::TopicName;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;

/// Where nodes tell each other what was published.
pub(crate) const CHANNEL: &str = "picloud_topics";

/// Bytes that are read at once.
const READ_BYTES: i64 = 64 << 10;

/// A message as it was published.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(crate) struct TopicMessage {
    pub(crate) id: i64,
    /// JSON text.
    pub(crate) message: String,
    pub(crate) published_at: DateTime<Utc>,
}

/// Adds a message to a topic's history and removes what is over its limits; nothing when nobody outside may listen.
/// The topic's row is locked until the transaction ends, so that messages are committed in the order of their ids.
///
/// The topic is locked meanwhile, so what is gone is worked out once and then looked up: compared with each message that is kept
/// it took 34 ms for one of a full history, and takes 0.3 ms so.
///
/// Of the oldest messages 64 are looked at, and all of them when a long one may take the room of many short ones.
pub(crate) async fn append(
    conn: &mut PgConnection,
    app: AppId,
    topic: &TopicName,
    message: &str,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar(
        "with next as (
             update topics
             set last_message_id = last_message_id + 1, message_bytes = message_bytes + octet_length($3)
             where app_id = $1 and name = $2 and is_external
             returning last_message_id as id, message_bytes as bytes
         ), oldest as (
             select id, bytes_until - octet_length(message) as bytes_before
             from topic_messages
             where app_id = $1 and topic = $2
             order by id
             limit case when octet_length($3) > 4096 then 1000 else 64 end
         ), gone as materialized (
             select greatest(
                 next.id - $4,
                 (select coalesce(max(oldest.id), 0) from oldest where oldest.bytes_before < next.bytes - $5)) as until
             from next
         ), removed as (
             delete from topic_messages
             where app_id = $1 and topic = $2 and id <= (select until from gone)
         )
         insert into topic_messages (app_id, topic, id, bytes_until, message, published_at)
         select $1, $2, id, bytes, $3, clock_timestamp()
         from next
         returning id",
    )
    .bind(app)
    .bind(topic.as_str())
    .bind(message)
    .bind(i64::try_from(REALTIME_HISTORY_MESSAGES_MAX).unwrap_or(i64::MAX))
    .bind(i64::try_from(REALTIME_HISTORY_BYTES_MAX).unwrap_or(i64::MAX))
    .fetch_optional(conn)
    .await
}

/// Some of the messages behind an id, the oldest first: 64 KiB at most, or one alone that is longer.
pub(crate) async fn after(
    conn: &mut PgConnection,
    app: AppId,
    topic: &TopicName,
    id: i64,
) -> sqlx::Result<Vec<TopicMessage>> {
    sqlx::query_as(
        "select id, message, published_at
         from topic_messages
         where app_id = $1
           and topic = $2
           and id > $3
           and bytes_until <= (
               select greatest(bytes_until, bytes_until - octet_length(message) + $4)
               from topic_messages
               where app_id = $1 and topic = $2 and id > $3
               order by id
               limit 1)
         order by id
         limit 100",
    )
    .bind(app)
    .bind(topic.as_str())
    .bind(id)
    .bind(READ_BYTES)
    .fetch_all(conn)
    .await
}

/// The id of the newest message of a topic, 0 before the first; nothing when there is no such topic.
pub(crate) async fn newest(
    conn: &mut PgConnection,
    app: AppId,
    topic: &TopicName,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar("select last_message_id from topics where app_id = $1 and name = $2")
        .bind(app)
        .bind(topic.as_str())
        .fetch_optional(conn)
        .await
}

/// Removes up to so many messages that are older than a day; answers how many there were.
pub(crate) async fn expire(conn: &mut PgConnection, limit: i64) -> sqlx::Result<u64> {
    let removed = sqlx::query(
        "delete from topic_messages
         where (app_id, topic, id) in (
             select app_id, topic, id
             from topic_messages
             where published_at < now() - interval '1 day'
             order by published_at
             limit $1
             for update skip locked)",
    )
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(removed.rows_affected())
}
