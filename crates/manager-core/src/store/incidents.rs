//! Workers that misbehaved, and the scripts that are quarantined for it.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::id::{AppId, ExecutionId, IncidentId, ScriptId};
use shared::incident::Incident;
use shared::invocation::ScriptTarget;
use shared::script::BundleHash;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use super::columns;

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

/// A script that may not run, and with what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quarantine {
    pub(crate) app: AppId,
    pub(crate) script: ScriptId,
    /// What ran when it was quarantined. No other script of the app may run the same.
    pub(crate) bundle: BundleHash,
}

impl Quarantine {
    pub(crate) const fn of(target: &ScriptTarget) -> Self {
        Self { app: target.app, script: target.script, bundle: target.bundle }
    }
}

impl FromRow<'_, PgRow> for Quarantine {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            app: row.try_get("app_id")?,
            script: row.try_get("script_id")?,
            bundle: columns::hash(row, "bundle_hash")?,
        })
    }
}

/// Writes an incident; false when its app is gone, or it is written already.
pub(crate) async fn add(
    conn: &mut PgConnection,
    id: IncidentId,
    incident: &Incident,
    execution: ExecutionId,
    target: &ScriptTarget,
) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "insert into incidents (app_id, id, script_id, script_name, version, execution_id, misconduct, is_alone,
                                detail)
         select a.id, $2, $3, $4, $5, $6, $7, $8, $9
         from apps a
         where a.id = $1
         on conflict do nothing",
    )
    .bind(target.app)
    .bind(id)
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
pub(crate) async fn quarantine(conn: &mut PgConnection, quarantine: Quarantine) -> sqlx::Result<bool> {
    let Quarantine { app, script, bundle } = quarantine;
    let done = sqlx::query(
        "insert into quarantines (app_id, script_id, bundle_hash)
         select app_id, id, $3
         from scripts
         where app_id = $1 and id = $2
         on conflict do nothing",
    )
    .bind(app)
    .bind(script)
    .bind(bundle.0)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The quarantine of a script, if it has one.
pub(crate) async fn quarantine_of(
    conn: &mut PgConnection,
    app: AppId,
    script: ScriptId,
) -> sqlx::Result<Option<Quarantine>> {
    sqlx::query_as(
        "select app_id, script_id, bundle_hash
         from quarantines
         where app_id = $1 and script_id = $2",
    )
    .bind(app)
    .bind(script)
    .fetch_optional(conn)
    .await
}

/// Lets a script run again and begins to count anew, together with the scripts that were quarantined with the bundle
/// that it has now. Answers which had been quarantined.
pub(crate) async fn release(
    conn: &mut PgConnection,
    app: AppId,
    script: ScriptId,
) -> sqlx::Result<Vec<ScriptId>> {
    let released: Vec<ScriptId> = sqlx::query_scalar(
        "delete from quarantines q
         where q.app_id = $1
           and (q.script_id = $2
                or q.bundle_hash = (
                    select v.bundle_hash
                    from scripts s
                    join script_versions v
                      on v.app_id = s.app_id and v.script_id = s.id and v.number = s.live_version
                    where s.app_id = $1 and s.id = $2
                ))
         returning q.script_id",
    )
    .bind(app)
    .bind(script)
    .fetch_all(&mut *conn)
    .await?;
    let forgiven: Vec<_> = released.iter().chain([&script]).map(|script| script.as_uuid()).collect();
    sqlx::query("update scripts set released_at = now() where app_id = $1 and id = any($2)")
        .bind(app)
        .bind(forgiven)
        .execute(conn)
        .await?;
    Ok(released)
}

/// Every quarantine.
pub(crate) async fn quarantined(conn: &mut PgConnection) -> sqlx::Result<Vec<Quarantine>> {
    sqlx::query_as("select app_id, script_id, bundle_hash from quarantines").fetch_all(conn).await
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
