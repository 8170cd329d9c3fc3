//! How far the times of cron triggers are dealt with.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use shared::id::{AppId, TriggerId};
use sqlx::postgres::PgConnection;

use crate::events::shard_of;

/// A trigger's mark, and the database's time.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub(crate) struct Mark {
    pub(crate) trigger_id: TriggerId,
    pub(crate) handled_until: DateTime<Utc>,
}

pub(crate) async fn now(conn: &mut PgConnection) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(conn).await
}

/// Times up to now are none of a trigger's: it is new, or switched on again, or was changed.
pub(crate) async fn begin(conn: &mut PgConnection, app: AppId, trigger: TriggerId) -> sqlx::Result<()> {
    sqlx::query(
        "insert into cron_marks as m (app_id, trigger_id, handled_until)
         values ($1, $2, clock_timestamp())
         on conflict (app_id, trigger_id) do update
         set handled_until = greatest(m.handled_until, excluded.handled_until)",
    )
    .bind(app)
    .bind(trigger)
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn marks(conn: &mut PgConnection, triggers: &[TriggerId]) -> sqlx::Result<Vec<Mark>> {
    sqlx::query_as(
        "select trigger_id, handled_until
         from cron_marks
         where trigger_id = any($1)",
    )
    .bind(uuids(triggers))
    .fetch_all(conn)
    .await
}

/// Locks marks, but for those that somebody else has locked: one app's must not keep all others' waiting.
pub(crate) async fn lock(conn: &mut PgConnection, triggers: &[TriggerId]) -> sqlx::Result<Vec<Mark>> {
    sqlx::query_as(
        "select trigger_id, handled_until
         from cron_marks
         where trigger_id = any($1)
         for update skip locked",
    )
    .bind(uuids(triggers))
    .fetch_all(conn)
    .await
}

/// Moves marks on.
pub(crate) async fn advance(
    conn: &mut PgConnection,
    marks: &BTreeMap<TriggerId, DateTime<Utc>>,
) -> sqlx::Result<()> {
    let (triggers, times): (Vec<_>, Vec<_>) =
        marks.iter().map(|(trigger, until)| (trigger.as_uuid(), *until)).unzip();
    sqlx::query(
        "update cron_marks m
         set handled_until = n.handled_until
         from unnest($1::uuid[], $2::timestamptz[]) as n (trigger_id, handled_until)
         where m.trigger_id = n.trigger_id and m.handled_until < n.handled_until",
    )
    .bind(triggers)
    .bind(times)
    .execute(conn)
    .await?;
    Ok(())
}

/// Those of the triggers whose last event is not done yet.
pub(crate) async fn busy(
    conn: &mut PgConnection,
    triggers: &[(AppId, TriggerId)],
) -> sqlx::Result<Vec<TriggerId>> {
    let shards: Vec<i16> = triggers.iter().map(|(app, _)| shard_of(*app).into()).collect();
    let (apps, ids): (Vec<_>, Vec<_>) =
        triggers.iter().map(|(app, id)| (app.as_uuid(), id.as_uuid())).unzip();
    sqlx::query_scalar(
        "select t.id
         from unnest($1::smallint[], $2::uuid[], $3::uuid[]) as t (shard, app_id, id)
         where exists (
             select 1
             from outbox o
             where o.shard = t.shard and o.app_id = t.app_id and o.trigger_id = t.id
         )",
    )
    .bind(shards)
    .bind(apps)
    .bind(ids)
    .fetch_all(conn)
    .await
}

fn uuids(triggers: &[TriggerId]) -> Vec<uuid::Uuid> {
    triggers.iter().map(|trigger| trigger.as_uuid()).collect()
}
