//! The outbox: events on their way to scripts. `docs/outbox.md` draws the life of a row.

mod dedup;
mod fetch;
mod settle;
mod shards;
mod view;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use shared::id::{DeadLetterId, DeliveryId, ExecutionId, TriggerId};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

pub(crate) use self::dedup::{Seen, forget_expired, remember};
pub(crate) use self::fetch::fetch;
pub(crate) use self::settle::{
    BEGIN_BY_INDEX, BEGIN_BY_INDEX_LAZILY, Burial, Later, bury, note_failures, remove, set_strikes,
    settle_later,
};
pub(crate) use self::shards::{Acquired, CHANNEL, acquire, lock_owned, notify, release};
pub(crate) use self::view::{OutboxRow, count_by_app, owners, page};
use crate::events::{Due, NewEvent, Row, Task, shard_of};

/// Writes events; answers those that are due at once, in the same order.
pub(crate) async fn insert(conn: &mut PgConnection, events: Vec<NewEvent>) -> sqlx::Result<Vec<Row>> {
    let column = |value: fn(&NewEvent) -> i32| events.iter().map(value).collect::<Vec<_>>();
    let delays: Vec<f64> = events
        .iter()
        .map(|event| match event.due {
            Due::Now => 0.0,
            Due::After(delay) => delay.as_secs_f64(),
        })
        .collect();
    let shards: Vec<i16> = events.iter().map(|event| shard_of(event.app).into()).collect();
    let uuids = |value: fn(&NewEvent) -> uuid::Uuid| events.iter().map(value).collect::<Vec<_>>();
    let maybe = |value: fn(&NewEvent) -> Option<uuid::Uuid>| events.iter().map(value).collect::<Vec<_>>();
    // The ids of one statement are drawn in the order of its rows.
    let rows = sqlx::query(
        "insert into outbox (shard, app_id, delivery_id, kind, trigger_id, script_id, version, due_at,
                             max_attempts, base_ms, cap_ms, root_id, parent_id, depth, order_key,
                             reply_to, replay_of, handles, payload)
         select r.shard, r.app_id, r.delivery_id, r.kind, r.trigger_id, r.script_id, r.version,
                case when r.delay = 'infinity' then 'infinity'::timestamptz
                     else clock_timestamp() + r.delay * interval '1 second' end,
                r.max_attempts, r.base_ms, r.cap_ms, r.root_id, r.parent_id, r.depth, r.order_key,
                r.reply_to, r.replay_of, r.handles, r.payload
         from unnest($1::smallint[], $2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::uuid[],
                     $7::int[], $8::float8[], $9::int[], $10::int[], $11::int[], $12::uuid[],
                     $13::uuid[], $14::int[], $15::bytea[], $16::uuid[], $17::uuid[], $18::uuid[],
                     $19::bytea[])
              with ordinality
              as r (shard, app_id, delivery_id, kind, trigger_id, script_id, version, delay,
                    max_attempts, base_ms, cap_ms, root_id, parent_id, depth, order_key,
                    reply_to, replay_of, handles, payload, place)
         order by r.place
         returning id, case when isfinite(due_at) then due_at end as due_at",
    )
    .bind(shards)
    .bind(uuids(|event| event.app.as_uuid()))
    .bind(uuids(|event| event.delivery.as_uuid()))
    .bind(events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>())
    .bind(maybe(|event| event.trigger.map(TriggerId::as_uuid)))
    .bind(uuids(|event| event.script.as_uuid()))
    .bind(events.iter().map(|event| event.version.and_then(|v| i32::try_from(v).ok())).collect::<Vec<_>>())
    .bind(delays)
    .bind(column(|event| event.retry.max_attempts.into()))
    .bind(column(|event| i32::try_from(event.retry.base_ms).unwrap_or(i32::MAX)))
    .bind(column(|event| i32::try_from(event.retry.cap_ms).unwrap_or(i32::MAX)))
    .bind(uuids(|event| event.cause.root.as_uuid()))
    .bind(maybe(|event| event.cause.parent.map(ExecutionId::as_uuid)))
    .bind(column(|event| i32::try_from(event.cause.depth).unwrap_or(i32::MAX)))
    .bind(events.iter().map(|event| event.order_key.map(|key| key.to_vec())).collect::<Vec<_>>())
    .bind(maybe(|event| event.reply_to))
    .bind(maybe(|event| event.replay_of.map(DeliveryId::as_uuid)))
    .bind(maybe(|event| event.handles.map(DeadLetterId::as_uuid)))
    .bind(events.iter().map(|event| event.payload.as_bytes()).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    let written = events.into_iter().zip(rows).filter(|(event, _)| event.due == Due::Now);
    written
        .map(|(event, row)| {
            let due_at: Option<DateTime<Utc>> = row.try_get("due_at")?;
            Ok(handed_over(event, row.try_get("id")?, due_at.unwrap_or_default().timestamp_micros()))
        })
        .collect()
}

fn handed_over(event: NewEvent, id: i64, due_us: i64) -> Row {
    let task = Task {
        delivery: event.delivery,
        kind: event.kind,
        trigger: event.trigger,
        script: event.script,
        version: event.version,
        cause: event.cause,
        reply_to: event.reply_to,
        replay_of: event.replay_of,
        handles: event.handles,
        payload: event.payload,
    };
    Row {
        id,
        app: event.app,
        due_us,
        // It is due at once.
        enqueued_us: due_us,
        attempts: 0,
        strikes: 0,
        retry: event.retry,
        is_suspect: false,
        is_ordered: event.order_key.is_some(),
        role: task.role(),
        task: Arc::new(task),
    }
}

/// Makes the events due that waited for their trigger.
pub(crate) async fn release_held(conn: &mut PgConnection, trigger: TriggerId) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "update outbox
         set due_at = clock_timestamp()
         where trigger_id = $1 and due_at = 'infinity'",
    )
    .bind(trigger)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
