//! Scripts as modules and as users of modules: live sources, and which scripts take which.

use shared::id::{AppId, ScriptId};
use shared::limits::ScriptLimits;
use shared::name::ScriptName;
use shared::script::{BundleHash, ScriptKind};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use super::columns;

/// What a script is made of, without what it imports.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) kind: ScriptKind,
    pub(crate) text: String,
    /// Names of the modules that the text itself imports.
    pub(crate) imports: Vec<String>,
}

/// What the live version of a script itself imports.
#[derive(Debug)]
pub(crate) struct Imports {
    pub(crate) name: ScriptName,
    pub(crate) kind: ScriptKind,
    pub(crate) version: u32,
    pub(crate) imports: Vec<String>,
}

/// A script whose live version contains a module.
#[derive(Debug)]
pub(crate) struct ModuleUser {
    pub(crate) id: ScriptId,
    pub(crate) name: ScriptName,
    pub(crate) bundle_hash: BundleHash,
    pub(crate) limits: ScriptLimits,
    pub(crate) source: Source,
}

impl FromRow<'_, PgRow> for Source {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            kind: columns::kind(row, "kind")?,
            text: row.try_get("source")?,
            imports: row.try_get("imports")?,
        })
    }
}

impl FromRow<'_, PgRow> for Imports {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            name: columns::parsed(row, "name")?,
            kind: columns::kind(row, "kind")?,
            version: columns::count(row, "live_version")?,
            imports: row.try_get("imports")?,
        })
    }
}

impl FromRow<'_, PgRow> for ModuleUser {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            name: columns::parsed(row, "name")?,
            bundle_hash: columns::hash(row, "bundle_hash")?,
            limits: columns::json(row, "limits")?,
            source: Source::from_row(row)?,
        })
    }
}

/// What each script of an app imports, by name.
pub(crate) async fn imports(conn: &mut PgConnection, app: AppId, limit: i64) -> sqlx::Result<Vec<Imports>> {
    sqlx::query_as(
        r#"select s.name, s.kind, s.live_version, b.imports
         from scripts s
         join script_versions v
           on v.app_id = s.app_id and v.script_id = s.id and v.number = s.live_version
         join bundles b on b.app_id = v.app_id and b.hash = v.bundle_hash
         where s.app_id = $1
         order by s.name collate "C"
         limit $2"#,
    )
    .bind(app)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// Live sources of those of these scripts that the app has.
pub(crate) async fn sources(
    conn: &mut PgConnection,
    app: AppId,
    names: &[String],
) -> sqlx::Result<Vec<(String, Source)>> {
    let rows = sqlx::query(
        "select s.name, b.kind, b.source, b.imports
         from scripts s
         join script_versions v
           on v.app_id = s.app_id and v.script_id = s.id and v.number = s.live_version
         join bundles b on b.app_id = v.app_id and b.hash = v.bundle_hash
         where s.app_id = $1 and s.name = any($2)",
    )
    .bind(app)
    .bind(names)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("name")?, Source::from_row(row)?))).collect()
}

/// How many bytes these are together, known without reading them.
pub(crate) async fn sources_bytes(
    conn: &mut PgConnection,
    app: AppId,
    names: &[String],
) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select coalesce(sum(octet_length(b.source)), 0)::bigint
         from scripts s
         join script_versions v
           on v.app_id = s.app_id and v.script_id = s.id and v.number = s.live_version
         join bundles b on b.app_id = v.app_id and b.hash = v.bundle_hash
         where s.app_id = $1 and s.name = any($2)",
    )
    .bind(app)
    .bind(names)
    .fetch_one(conn)
    .await
}

/// How many bytes the live sources of an app are together, without that of the script `but`. Known without reading them.
pub(crate) async fn live_bytes(
    conn: &mut PgConnection,
    app: AppId,
    but: Option<ScriptId>,
) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select coalesce(sum(octet_length(b.source)), 0)::bigint
         from scripts s
         join script_versions v
           on v.app_id = s.app_id and v.script_id = s.id and v.number = s.live_version
         join bundles b on b.app_id = v.app_id and b.hash = v.bundle_hash
         where s.app_id = $1 and ($2::uuid is null or s.id <> $2)",
    )
    .bind(app)
    .bind(but)
    .fetch_one(conn)
    .await
}

/// What a version of a script is made of.
pub(crate) async fn of_version(
    conn: &mut PgConnection,
    app: AppId,
    script: ScriptId,
    version: u32,
) -> sqlx::Result<Option<Source>> {
    sqlx::query_as(
        "select b.kind, b.source, b.imports
         from script_versions v
         join bundles b on b.app_id = v.app_id and b.hash = v.bundle_hash
         where v.app_id = $1 and v.script_id = $2 and v.number = $3",
    )
    .bind(app)
    .bind(script)
    .bind(i64::from(version))
    .fetch_optional(conn)
    .await
}

/// How many bytes the sources of [`users`] are together. Asked before they are read: a thousand of the
/// longest would be a gigabyte.
pub(crate) async fn users_bytes(
    conn: &mut PgConnection,
    app: AppId,
    module: &ScriptName,
) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select coalesce(sum(octet_length(b.source)), 0)::bigint
         from scripts s
         join script_versions v
           on v.app_id = s.app_id and v.script_id = s.id and v.number = s.live_version
         join bundles b on b.app_id = v.app_id and b.hash = v.bundle_hash
         where s.app_id = $1 and b.modules @> jsonb_build_array(jsonb_build_object('name', $2::text))",
    )
    .bind(app)
    .bind(module.as_str())
    .fetch_one(conn)
    .await
}

/// Scripts whose live version contains this module, directly or through others, by name.
pub(crate) async fn users(
    conn: &mut PgConnection,
    app: AppId,
    module: &ScriptName,
    limit: i64,
) -> sqlx::Result<Vec<ModuleUser>> {
    sqlx::query_as(
        r#"select s.id, s.name, v.bundle_hash, v.limits, b.kind, b.source, b.imports
         from scripts s
         join script_versions v
           on v.app_id = s.app_id and v.script_id = s.id and v.number = s.live_version
         join bundles b on b.app_id = v.app_id and b.hash = v.bundle_hash
         where s.app_id = $1 and b.modules @> jsonb_build_array(jsonb_build_object('name', $2::text))
         order by s.name collate "C"
         limit $3"#,
    )
    .bind(app)
    .bind(module.as_str())
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// The names of [`users`].
pub(crate) async fn user_names(
    conn: &mut PgConnection,
    app: AppId,
    module: &ScriptName,
    limit: i64,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        r#"select s.name
         from scripts s
         join script_versions v
           on v.app_id = s.app_id and v.script_id = s.id and v.number = s.live_version
         join bundles b on b.app_id = v.app_id and b.hash = v.bundle_hash
         where s.app_id = $1 and b.modules @> jsonb_build_array(jsonb_build_object('name', $2::text))
         order by s.name collate "C"
         limit $3"#,
    )
    .bind(app)
    .bind(module.as_str())
    .bind(limit)
    .fetch_all(conn)
    .await
}
