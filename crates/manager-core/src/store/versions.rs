//! Versions of scripts. They are added and read, never changed, and removed when they are old.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::capabilities::Capabilities;
use shared::id::{AppId, ScriptId, UserId};
use shared::limits::ScriptLimits;
use shared::script::{Bundle, BundleHash};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::types::Json;
use sqlx::{FromRow, Row};

use super::bundles::bundle_bytes;
use super::columns;

/// One deploy of a script.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Version {
    pub(crate) version: u32,
    pub(crate) bundle_hash: BundleHash,
    pub(crate) limits: ScriptLimits,
    /// Login name of who deployed it; absent for what the platform itself made.
    pub(crate) created_by: Option<String>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) is_live: bool,
    /// What it asks for, as far as its source says; absent for versions of releases that did not look.
    pub(crate) capabilities: Option<Capabilities>,
    /// What it asks for that somebody has to approve before it can be live.
    pub(crate) unapproved: Vec<String>,
}

impl FromRow<'_, PgRow> for Version {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            version: columns::count(row, "number")?,
            bundle_hash: columns::hash(row, "bundle_hash")?,
            limits: columns::json(row, "limits")?,
            created_by: row.try_get("created_by")?,
            created_at: row.try_get("created_at")?,
            is_live: row.try_get("is_live")?,
            capabilities: row
                .try_get::<Option<Json<Capabilities>>, _>("capabilities")?
                .map(|Json(found)| found),
            unapproved: row.try_get("unapproved")?,
        })
    }
}

/// Adds the next version and answers its number. The app must be locked.
pub(crate) async fn add(
    conn: &mut PgConnection,
    app: AppId,
    script: ScriptId,
    bundle: BundleHash,
    limits: &ScriptLimits,
    created_by: UserId,
) -> sqlx::Result<u32> {
    let row = sqlx::query(
        "insert into script_versions (app_id, script_id, number, bundle_hash, limits, created_by)
         select $1, $2, coalesce(max(number), 0) + 1, $3, $4, $5
         from script_versions
         where app_id = $1 and script_id = $2
         returning number",
    )
    .bind(app)
    .bind(script)
    .bind(bundle.0)
    .bind(Json(limits))
    .bind(created_by)
    .fetch_one(conn)
    .await?;
    columns::count(&row, "number")
}

/// What one version is: its bundle and its limits.
pub(crate) async fn content(
    conn: &mut PgConnection,
    app: AppId,
    script: ScriptId,
    version: u32,
) -> sqlx::Result<Option<(Bundle, ScriptLimits)>> {
    let row = sqlx::query(
        "select b.kind, b.name, b.source, b.modules, v.limits
         from script_versions v
         join bundles b on b.app_id = v.app_id and b.hash = v.bundle_hash
         where v.app_id = $1 and v.script_id = $2 and v.number = $3",
    )
    .bind(app)
    .bind(script)
    .bind(i64::from(version))
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        let bundle = Bundle {
            kind: columns::kind(&row, "kind")?,
            name: row.try_get("name")?,
            source: row.try_get("source")?,
            modules: columns::json(&row, "modules")?,
        };
        Ok((bundle, columns::json(&row, "limits")?))
    })
    .transpose()
}

/// Versions of a script, newest first, those before `before`.
pub(crate) async fn page(
    conn: &mut PgConnection,
    app: AppId,
    script: ScriptId,
    before: Option<u32>,
    limit: i64,
) -> sqlx::Result<Vec<Version>> {
    sqlx::query_as(
        "select v.number, v.bundle_hash, v.limits, u.username as created_by, v.created_at,
                v.number = s.live_version as is_live, b.capabilities,
                coalesce(a.wants, '{}') as unapproved
         from script_versions v
         join bundles b on b.app_id = v.app_id and b.hash = v.bundle_hash
         left join version_approvals a
           on a.app_id = v.app_id and a.script_id = v.script_id and a.number = v.number
          and a.approved_at is null
         join scripts s on s.app_id = v.app_id and s.id = v.script_id
         left join users u on u.id = v.created_by
         where v.app_id = $1 and v.script_id = $2 and ($3::bigint is null or v.number < $3)
         order by v.number desc
         limit $4",
    )
    .bind(app)
    .bind(script)
    .bind(before.map(i64::from))
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// Whether an event waits for the version `v`.
macro_rules! awaited {
    () => {
        "exists (
             select
             from outbox o
             where o.app_id = v.app_id and o.script_id = v.script_id and o.version = v.number
         )"
    };
}

/// Removes versions of an app's scripts beside which there are so many newer ones, unless they are live or an event
/// waits for them; answers how many. The app must be locked.
pub(crate) async fn forget_old(conn: &mut PgConnection, app: AppId, newer: u32) -> sqlx::Result<u64> {
    let done = sqlx::query(concat!(
        "delete from script_versions v
         using (
             select s.id, s.live_version,
                    (select max(n.number) from script_versions n where n.app_id = s.app_id and n.script_id = s.id)
                        as newest
             from scripts s
             where s.app_id = $1
         ) s
         where v.app_id = $1 and v.script_id = s.id
           and v.number <= s.newest - $2 and v.number <> s.live_version and not ",
        awaited!()
    ))
    .bind(app)
    .bind(i64::from(newer))
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Removes versions of an app's scripts, the oldest first, until the code of what is left has so many bytes. Those that
/// are live or that an event waits for stay, and so does the newest of each script, after which the next is numbered;
/// answers how many went. The app must be locked.
pub(crate) async fn forget_beyond(
    conn: &mut PgConnection,
    app: AppId,
    bytes: i64,
    least: i64,
) -> sqlx::Result<u64> {
    let done = sqlx::query(concat!(
        "with used as (
             select v.bundle_hash as hash,
                    max(case when v.number in (s.live_version, n.newest) or ",
        awaited!(),
        " then 'infinity' else v.created_at end) as last
             from script_versions v
             join scripts s on s.app_id = v.app_id and s.id = v.script_id
             join (
                 select script_id, max(number) as newest
                 from script_versions
                 where app_id = $1
                 group by script_id
             ) n on n.script_id = v.script_id
             where v.app_id = $1
             group by v.bundle_hash
         ), placed as (
             select u.hash, u.last, sum(",
        bundle_bytes!("$3"),
        ") over (order by u.last desc, u.hash) as bytes
             from used u
             join bundles b on b.app_id = $1 and b.hash = u.hash
         )
         delete from script_versions v
         using placed p
         where v.app_id = $1 and v.bundle_hash = p.hash and p.bytes > $2 and p.last < 'infinity'"
    ))
    .bind(app)
    .bind(bytes)
    .bind(least)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
