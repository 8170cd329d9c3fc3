//! Versions that wait until somebody approves what they ask for.

use shared::id::{AppId, ScriptId, UserId};
use shared::limits::ScriptLimits;
use shared::script::BundleHash;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;

use super::columns;

/// Lets a version wait for an approval of this.
pub(crate) async fn require(
    conn: &mut PgConnection,
    app: AppId,
    script: ScriptId,
    version: u32,
    wants: &[String],
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into version_approvals (app_id, script_id, number, wants)
         values ($1, $2, $3, $4)
         on conflict (app_id, script_id, number) do update set wants = excluded.wants",
    )
    .bind(app)
    .bind(script)
    .bind(i64::from(version))
    .bind(wants)
    .execute(conn)
    .await?;
    Ok(())
}

/// What a version waits to be approved; none when it waits for nothing.
pub(crate) async fn wanted(
    conn: &mut PgConnection,
    app: AppId,
    script: ScriptId,
    version: u32,
) -> sqlx::Result<Option<Vec<String>>> {
    sqlx::query_scalar(
        "select wants
         from version_approvals
         where app_id = $1 and script_id = $2 and number = $3 and approved_at is null",
    )
    .bind(app)
    .bind(script)
    .bind(i64::from(version))
    .fetch_optional(conn)
    .await
}

/// The newest version of this content that waits. The same deploy again makes no further one.
pub(crate) async fn waiting(
    conn: &mut PgConnection,
    app: AppId,
    script: ScriptId,
    bundle: BundleHash,
    limits: &ScriptLimits,
) -> sqlx::Result<Option<u32>> {
    let row = sqlx::query(
        "select v.number
         from version_approvals a
         join script_versions v using (app_id, script_id, number)
         where a.app_id = $1 and a.script_id = $2 and a.approved_at is null
           and v.bundle_hash = $3 and v.limits = $4
         order by v.number desc
         limit 1",
    )
    .bind(app)
    .bind(script)
    .bind(bundle.0)
    .bind(Json(limits))
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(|row| columns::count(row, "number")).transpose()
}

/// Ends the wait of a version.
pub(crate) async fn approve(
    conn: &mut PgConnection,
    app: AppId,
    script: ScriptId,
    version: u32,
    by: UserId,
) -> sqlx::Result<()> {
    sqlx::query(
        "update version_approvals
         set approved_at = now(), approved_by = $4
         where app_id = $1 and script_id = $2 and number = $3 and approved_at is null",
    )
    .bind(app)
    .bind(script)
    .bind(i64::from(version))
    .bind(by)
    .execute(conn)
    .await?;
    Ok(())
}
