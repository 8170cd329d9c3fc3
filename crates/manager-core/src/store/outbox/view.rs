//! The outbox as people see it.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use shared::id::{AppId, DeliveryId, ExecutionId, ScriptId, TriggerId, UserId};
use sqlx::FromRow;
use sqlx::postgres::PgConnection;

use crate::events::shard_of;

/// An event that is not done.
#[derive(Debug, Serialize, JsonSchema, FromRow)]
pub(crate) struct OutboxRow {
    #[serde(skip)]
    pub(crate) id: i64,
    pub(crate) delivery_id: DeliveryId,
    pub(crate) kind: String,
    pub(crate) trigger_id: Option<TriggerId>,
    pub(crate) script_id: ScriptId,
    /// The script's name; null when it is gone.
    pub(crate) script: Option<String>,
    /// When it is due; null while its trigger is paused.
    pub(crate) due_at: Option<DateTime<Utc>>,
    pub(crate) enqueued_at: DateTime<Utc>,
    /// Attempts that failed.
    pub(crate) attempts: i16,
    pub(crate) max_attempts: i16,
    pub(crate) root_id: ExecutionId,
    pub(crate) parent_id: Option<ExecutionId>,
    pub(crate) depth: i32,
    #[sqlx(json)]
    pub(crate) errors: Value,
}

/// Events of an app that are not done, in the order in which they were written.
pub(crate) async fn page(
    conn: &mut PgConnection,
    app: AppId,
    after: Option<i64>,
    limit: i64,
) -> sqlx::Result<Vec<OutboxRow>> {
    sqlx::query_as(
        "select o.id, o.delivery_id, o.kind, o.trigger_id, o.script_id, s.name as script,
                case when isfinite(o.due_at) then o.due_at end as due_at, o.enqueued_at, o.attempts,
                o.max_attempts, o.root_id, o.parent_id, o.depth, o.errors
         from outbox o
         left join scripts s on s.app_id = o.app_id and s.id = o.script_id
         where o.shard = $1 and o.app_id = $2 and ($3::bigint is null or o.id > $3)
         order by o.id
         limit $4",
    )
    .bind(i16::from(shard_of(app)))
    .bind(app)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// How many events each app has, and bytes of them, for whoever accepts one.
pub(crate) async fn count_by_app(conn: &mut PgConnection) -> sqlx::Result<Vec<(AppId, i64, i64)>> {
    sqlx::query_as("select app_id, events, bytes from outbox_waiting").fetch_all(conn).await
}

/// Whose all apps are, for whoever shares out what there is for events.
pub(crate) async fn owners(conn: &mut PgConnection) -> sqlx::Result<Vec<(AppId, UserId)>> {
    sqlx::query_as("select id, owner_id from apps").fetch_all(conn).await
}
