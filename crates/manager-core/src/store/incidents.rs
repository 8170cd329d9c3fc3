//! Workers that misbehaved, and the scripts that are quarantined for it.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::id::{AppId, ExecutionId, IncidentId, ScriptId};
use shared::incident::{Incident, Suspect};
use sqlx::FromRow;
use sqlx::postgres::PgConnection;

/// An incident as it is kept.
#[derive(Debug, Clone, Serialize, FromRow, JsonSchema)]
pub(crate) struct IncidentRow {
    pub(crate) id: IncidentId,
    #[sqlx(rename = "script_name")]
    pub(crate) script: String,
    pub(crate) version: i32,
    #[sqlx(rename = "execution_id")]
    pub(crate) execution: ExecutionId,
    pub(crate) misconduct: String,
    /// Whether the worker had run this script and no other. Only then does it count towards quarantine.
    pub(crate) is_alone: bool,
    pub(crate) detail: String,
    pub(crate) happened_at: DateTime<Utc>,
}

/// Writes an incident; false when its app is gone.
pub(crate) async fn add(
    conn: &mut PgConnection,
    incident: &Incident,
    Suspect { execution, target }: &Suspect,
) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "insert into incidents (app_id, id, script_id, script_name, version, execution_id, misconduct, is_alone,
                                detail)
         select a.id, $2, $3, $4, $5, $6, $7, $8, $9
         from apps a
         where a.id = $1",
    )
    .bind(target.app)
    .bind(IncidentId::new())
    .bind(target.script)
    .bind(target.name.as_str())
    .bind(i64::from(target.version))
    .bind(execution)
    .bind(incident.misconduct.as_str())
    .bind(incident.is_alone)
    .bind(&*incident.detail)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// How many incidents that can only be its own a script had in the last hour, and since it was last
/// released.
pub(crate) async fn recent(conn: &mut PgConnection, app: AppId, script: ScriptId) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select count(*)
         from incidents
         where app_id = $1 and script_id = $2 and is_alone and happened_at > now() - interval '1 hour'
           and happened_at > coalesce((select released_at from scripts where app_id = $1 and id = $2),
                                      '-infinity')",
    )
    .bind(app)
    .bind(script)
    .fetch_one(conn)
    .await
}

/// Quarantines a script; false when it is already, or gone.
pub(crate) async fn quarantine(conn: &mut PgConnection, app: AppId, script: ScriptId) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "insert into quarantines (app_id, script_id)
         select app_id, id
         from scripts
         where app_id = $1 and id = $2
         on conflict do nothing",
    )
    .bind(app)
    .bind(script)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Lets a script run again and begins to count anew; false when it was not quarantined.
pub(crate) async fn release(conn: &mut PgConnection, app: AppId, script: ScriptId) -> sqlx::Result<bool> {
    sqlx::query("update scripts set released_at = now() where app_id = $1 and id = $2")
        .bind(app)
        .bind(script)
        .execute(&mut *conn)
        .await?;
    let done = sqlx::query("delete from quarantines where app_id = $1 and script_id = $2")
        .bind(app)
        .bind(script)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Every script that is quarantined.
pub(crate) async fn quarantined(conn: &mut PgConnection) -> sqlx::Result<Vec<ScriptId>> {
    sqlx::query_scalar("select script_id from quarantines").fetch_all(conn).await
}

/// Incidents of an app, the newest first.
pub(crate) async fn page(
    conn: &mut PgConnection,
    app: AppId,
    before: Option<IncidentId>,
    limit: i64,
) -> sqlx::Result<Vec<IncidentRow>> {
    sqlx::query_as(
        "select id, script_name, version, execution_id, misconduct, is_alone, detail, happened_at
         from incidents
         where app_id = $1 and ($2::uuid is null or id < $2)
         order by id desc
         limit $3",
    )
    .bind(app)
    .bind(before)
    .bind(limit)
    .fetch_all(conn)
    .await
}
