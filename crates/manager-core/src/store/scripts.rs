//! Scripts, each with its live version.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::id::{AppId, ScriptId};
use shared::invocation::ScriptTarget;
use shared::limits::ScriptLimits;
use shared::name::ScriptName;
use shared::script::{BundleHash, ScriptKind};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use super::columns;

/// The query of a [`Script`], with what is to follow it.
macro_rules! select_scripts {
    ($rest:literal) => {
        concat!(
            "select s.id, s.name, s.kind, s.description, s.live_version, v.bundle_hash, v.limits,
                    s.disabled_at is null as is_enabled, s.created_at, s.updated_at,
                    (select min(q.since)
                     from quarantines q
                     where q.app_id = s.app_id and (q.script_id = s.id or q.bundle_hash = v.bundle_hash)
                    ) as quarantined_at
             from scripts s
             join script_versions v
               on v.app_id = s.app_id and v.script_id = s.id and v.number = s.live_version ",
            $rest
        )
    };
}

/// Whether the bundle `b` asks for calls of other scripts. Releases before did not look, and let it call them.
macro_rules! may_invoke {
    () => {
        "coalesce(b.capabilities -> 'namespaces' ? 'invoke', true) as may_invoke"
    };
}
pub(super) use may_invoke;

/// What runs of versions need: one row for each version that the rest chooses by `v.number`.
macro_rules! select_targets {
    ($rest:literal) => {
        concat!(
            "select a.id as app_id, a.slug, a.owner_id, s.id as script_id, s.name,
                    v.number as live_version, v.bundle_hash, v.limits, ",
            may_invoke!(),
            " from scripts s
             join apps a on a.id = s.app_id
             join script_versions v on v.app_id = s.app_id and v.script_id = s.id
             join bundles b on b.app_id = v.app_id and b.hash = v.bundle_hash ",
            $rest
        )
    };
}

/// A script as its live version makes it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Script {
    pub(crate) id: ScriptId,
    pub(crate) name: ScriptName,
    pub(crate) kind: ScriptKind,
    pub(crate) description: String,
    pub(crate) version: u32,
    pub(crate) bundle_hash: BundleHash,
    pub(crate) limits: ScriptLimits,
    /// Whether its people have it switched on.
    pub(crate) is_enabled: bool,
    /// Since when it may not run because workers that ran it, or the same under another name, misbehaved; absent
    /// when it may.
    pub(crate) quarantined_at: Option<DateTime<Utc>>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for Script {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            name: columns::parsed(row, "name")?,
            kind: columns::kind(row, "kind")?,
            description: row.try_get("description")?,
            version: columns::count(row, "live_version")?,
            bundle_hash: columns::hash(row, "bundle_hash")?,
            limits: columns::json(row, "limits")?,
            is_enabled: row.try_get("is_enabled")?,
            quarantined_at: row.try_get("quarantined_at")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

pub(crate) async fn by_name(
    conn: &mut PgConnection,
    app: AppId,
    name: &ScriptName,
) -> sqlx::Result<Option<Script>> {
    sqlx::query_as(select_scripts!("where s.app_id = $1 and s.name = $2"))
        .bind(app)
        .bind(name.as_str())
        .fetch_optional(conn)
        .await
}

/// Scripts of an app in the order of their names, those after `after`.
pub(crate) async fn page(
    conn: &mut PgConnection,
    app: AppId,
    after: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<Script>> {
    sqlx::query_as(select_scripts!(
        r#"where s.app_id = $1 and ($2::text is null or s.name collate "C" > $2)
         order by s.name collate "C"
         limit $3"#
    ))
    .bind(app)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// Every script of an app.
pub(crate) async fn of_app(conn: &mut PgConnection, app: AppId) -> sqlx::Result<Vec<Script>> {
    sqlx::query_as(select_scripts!("where s.app_id = $1 order by s.name")).bind(app).fetch_all(conn).await
}

pub(crate) async fn count(conn: &mut PgConnection, app: AppId) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from scripts where app_id = $1").bind(app).fetch_one(conn).await
}

/// What a run of the script's live version needs, whichever app it is of.
pub(crate) async fn target(conn: &mut PgConnection, script: ScriptId) -> sqlx::Result<Option<ScriptTarget>> {
    let row =
        sqlx::query(select_targets!("where s.id = $1 and v.number = s.live_version and s.kind = 'endpoint'"))
            .bind(script)
            .fetch_optional(conn)
            .await?;
    row.as_ref().map(target_of).transpose()
}

/// The same for one of its versions.
pub(crate) async fn target_of_version(
    conn: &mut PgConnection,
    script: ScriptId,
    version: u32,
) -> sqlx::Result<Option<ScriptTarget>> {
    let row = sqlx::query(select_targets!("where s.id = $1 and v.number = $2 and s.kind = 'endpoint'"))
        .bind(script)
        .bind(i64::from(version))
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(target_of).transpose()
}

/// A script's name; none when it is gone.
pub(crate) async fn name_of(
    conn: &mut PgConnection,
    app: AppId,
    script: ScriptId,
) -> sqlx::Result<Option<ScriptName>> {
    let row = sqlx::query("select name from scripts where app_id = $1 and id = $2")
        .bind(app)
        .bind(script)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(|row| columns::parsed(row, "name")).transpose()
}

/// What a run of an app's script needs, when it may run by itself.
pub(crate) async fn enabled_target(
    conn: &mut PgConnection,
    app: AppId,
    name: &ScriptName,
) -> sqlx::Result<Option<ScriptTarget>> {
    let row = sqlx::query(select_targets!(
        "where s.app_id = $1 and s.name = $2 and v.number = s.live_version
           and s.kind = 'endpoint' and s.disabled_at is null"
    ))
    .bind(app)
    .bind(name.as_str())
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(target_of).transpose()
}

/// Reads the columns `app_id, slug, owner_id, script_id, name, live_version, bundle_hash, limits, may_invoke`.
pub(super) fn target_of(row: &PgRow) -> sqlx::Result<ScriptTarget> {
    Ok(ScriptTarget {
        app: row.try_get("app_id")?,
        app_slug: columns::parsed(row, "slug")?,
        owner: row.try_get("owner_id")?,
        script: row.try_get("script_id")?,
        name: columns::parsed(row, "name")?,
        version: columns::count(row, "live_version")?,
        bundle: columns::hash(row, "bundle_hash")?,
        limits: columns::json(row, "limits")?,
        may_invoke: row.try_get("may_invoke")?,
    })
}

/// Makes a script whose live version is its first, which must follow in the same transaction.
pub(crate) async fn create(
    conn: &mut PgConnection,
    app: AppId,
    name: &ScriptName,
    kind: ScriptKind,
    description: &str,
) -> sqlx::Result<ScriptId> {
    let id = ScriptId::new();
    sqlx::query(
        "insert into scripts (app_id, id, name, kind, description, live_version)
         values ($1, $2, $3, $4, $5, 1)",
    )
    .bind(app)
    .bind(id)
    .bind(name.as_str())
    .bind(kind.as_str())
    .bind(description)
    .execute(conn)
    .await?;
    Ok(id)
}

pub(crate) async fn set_description(
    conn: &mut PgConnection,
    app: AppId,
    script: ScriptId,
    description: &str,
) -> sqlx::Result<()> {
    sqlx::query(
        "update scripts
         set description = $3, updated_at = now()
         where app_id = $1 and id = $2 and description <> $3",
    )
    .bind(app)
    .bind(script)
    .bind(description)
    .execute(conn)
    .await?;
    Ok(())
}

/// Moves the live pointer. False when there is no such version.
pub(crate) async fn set_live(
    conn: &mut PgConnection,
    app: AppId,
    script: ScriptId,
    version: u32,
) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "update scripts s
         set live_version = v.number, updated_at = now()
         from script_versions v
         where s.app_id = $1 and s.id = $2
           and v.app_id = s.app_id and v.script_id = s.id and v.number = $3",
    )
    .bind(app)
    .bind(script)
    .bind(i64::from(version))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Switches a script on or off; false when it is so already.
pub(crate) async fn switch(
    conn: &mut PgConnection,
    app: AppId,
    script: ScriptId,
    on: bool,
) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "update scripts
         set disabled_at = case when $3 then null else now() end, updated_at = now()
         where app_id = $1 and id = $2 and (disabled_at is null) <> $3",
    )
    .bind(app)
    .bind(script)
    .bind(on)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether a script is switched on, whichever app it is of.
pub(crate) async fn is_enabled(conn: &mut PgConnection, script: ScriptId) -> sqlx::Result<bool> {
    sqlx::query_scalar("select disabled_at is null from scripts where id = $1")
        .bind(script)
        .fetch_optional(conn)
        .await
        .map(|found| found.unwrap_or(false))
}

/// Removes a script with its versions and routes.
pub(crate) async fn delete(conn: &mut PgConnection, app: AppId, script: ScriptId) -> sqlx::Result<()> {
    sqlx::query("delete from scripts where app_id = $1 and id = $2")
        .bind(app)
        .bind(script)
        .execute(conn)
        .await?;
    Ok(())
}
