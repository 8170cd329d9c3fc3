//! Executions for whose answers nobody waited any more.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::id::{AppId, DeliveryId, ExecutionId, ScriptId};
use sqlx::FromRow;
use sqlx::postgres::PgConnection;

/// One to be noted.
#[derive(Debug)]
pub(crate) struct Abandoned {
    pub(crate) app: AppId,
    pub(crate) delivery: DeliveryId,
    pub(crate) script: ScriptId,
    /// None when it is not known whether it ran.
    pub(crate) execution: Option<ExecutionId>,
    pub(crate) status: Option<&'static str>,
    pub(crate) http_status: Option<u16>,
}

/// One as it is kept.
#[derive(Debug, Serialize, JsonSchema, FromRow)]
pub(crate) struct AbandonedRow {
    pub(crate) delivery_id: DeliveryId,
    /// Null when it is not known whether it ran, because the platform ended meanwhile.
    pub(crate) execution_id: Option<ExecutionId>,
    pub(crate) script_id: ScriptId,
    pub(crate) status: Option<String>,
    pub(crate) http_status: Option<i16>,
    pub(crate) abandoned_at: DateTime<Utc>,
}

/// Notes one; nothing when its app is gone, or when it is noted already.
pub(crate) async fn insert(conn: &mut PgConnection, abandoned: &Abandoned) -> sqlx::Result<()> {
    sqlx::query(
        "insert into abandoned_executions (app_id, delivery_id, execution_id, script_id, status, http_status)
         select id, $2, $3, $4, $5, $6
         from apps
         where id = $1
         on conflict do nothing",
    )
    .bind(abandoned.app)
    .bind(abandoned.delivery)
    .bind(abandoned.execution)
    .bind(abandoned.script)
    .bind(abandoned.status)
    .bind(abandoned.http_status.and_then(|status| i16::try_from(status).ok()))
    .execute(conn)
    .await?;
    Ok(())
}

/// Those of an app, newest first.
pub(crate) async fn page(
    conn: &mut PgConnection,
    app: AppId,
    before: Option<DeliveryId>,
    limit: i64,
) -> sqlx::Result<Vec<AbandonedRow>> {
    sqlx::query_as(
        "select delivery_id, execution_id, script_id, status, http_status, abandoned_at
         from abandoned_executions
         where app_id = $1 and ($2::uuid is null or delivery_id < $2)
         order by delivery_id desc
         limit $3",
    )
    .bind(app)
    .bind(before)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// The newest of an app's beside which there are so many newer ones.
pub(crate) async fn nth_newest(
    conn: &mut PgConnection,
    app: AppId,
    newer: u32,
) -> sqlx::Result<Option<DeliveryId>> {
    sqlx::query_scalar(
        "select delivery_id
         from abandoned_executions
         where app_id = $1
         order by delivery_id desc
         offset $2
         limit 1",
    )
    .bind(app)
    .bind(i64::from(newer))
    .fetch_optional(conn)
    .await
}

/// Removes the oldest of an app's, none younger than `last`; answers how many.
pub(crate) async fn delete_up_to(
    conn: &mut PgConnection,
    app: AppId,
    last: DeliveryId,
    limit: i64,
) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "delete from abandoned_executions
         where app_id = $1
           and delivery_id = any(array(
               select delivery_id
               from abandoned_executions
               where app_id = $1 and delivery_id <= $2
               order by delivery_id
               limit $3
           ))",
    )
    .bind(app)
    .bind(last)
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Removes some that were noted before this, the oldest; answers how many.
pub(crate) async fn delete_before(
    conn: &mut PgConnection,
    time: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "delete from abandoned_executions
         where (app_id, delivery_id) in (
             select app_id, delivery_id
             from abandoned_executions
             where abandoned_at < $1
             order by abandoned_at
             limit $2
         )",
    )
    .bind(time)
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
