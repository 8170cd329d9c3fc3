//! Routes of apps.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::host::HostPattern;
use shared::id::{AppId, RouteId, ScriptId};
use shared::name::ScriptName;
use shared::route::{DispatchMode, PathPattern, RoutePolicy};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::types::Json;
use sqlx::{FromRow, Row};

use super::columns;

/// The query of a [`StoredRoute`], with what is to follow it.
macro_rules! select_routes {
    ($rest:literal) => {
        concat!(
            "select r.id, r.method, r.host, r.path, r.dispatch_mode, r.script_id, s.name as script,
                    r.body_bytes_max, r.policy, r.created_at, r.updated_at
             from routes r
             join scripts s on s.app_id = r.app_id and s.id = r.script_id ",
            $rest
        )
    };
}

/// A route as the admin API shows it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct StoredRoute {
    pub(crate) id: RouteId,
    /// Absent for any method.
    pub(crate) method: Option<String>,
    pub(crate) path: String,
    /// `any`, or a pattern of hosts.
    pub(crate) host: String,
    #[serde(skip)]
    pub(crate) hosts: Option<HostPattern>,
    pub(crate) dispatch_mode: DispatchMode,
    pub(crate) script: ScriptName,
    #[serde(skip)]
    pub(crate) script_id: ScriptId,
    pub(crate) body_limit_bytes: u32,
    #[serde(flatten)]
    pub(crate) policy: RoutePolicy,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for StoredRoute {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let method: String = row.try_get("method")?;
        let hosts = columns::host(row, "host")?;
        Ok(Self {
            id: row.try_get("id")?,
            method: Some(method).filter(|method| !method.is_empty()),
            path: row.try_get("path")?,
            host: hosts.as_ref().map_or_else(|| "any".to_owned(), ToString::to_string),
            hosts,
            dispatch_mode: columns::parsed(row, "dispatch_mode")?,
            script: columns::parsed(row, "script")?,
            script_id: row.try_get("script_id")?,
            body_limit_bytes: columns::count(row, "body_bytes_max")?,
            policy: columns::json(row, "policy")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

/// What makes a route.
#[derive(Debug, Clone)]
pub(crate) struct RouteSpec {
    pub(crate) method: Option<String>,
    pub(crate) host: Option<HostPattern>,
    pub(crate) pattern: PathPattern,
    pub(crate) dispatch: DispatchMode,
    pub(crate) script: ScriptId,
    pub(crate) body_bytes_max: u32,
    pub(crate) policy: RoutePolicy,
}

impl RouteSpec {
    fn host_text(&self) -> String {
        self.host.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    fn host_shape(&self) -> String {
        self.host.as_ref().map(HostPattern::shape).unwrap_or_default()
    }
}

pub(crate) async fn by_id(
    conn: &mut PgConnection,
    app: AppId,
    id: RouteId,
) -> sqlx::Result<Option<StoredRoute>> {
    sqlx::query_as(select_routes!("where r.app_id = $1 and r.id = $2"))
        .bind(app)
        .bind(id)
        .fetch_optional(conn)
        .await
}

/// Routes of an app in the order in which they were made, those after `after`.
pub(crate) async fn page(
    conn: &mut PgConnection,
    app: AppId,
    after: Option<RouteId>,
    limit: i64,
) -> sqlx::Result<Vec<StoredRoute>> {
    sqlx::query_as(select_routes!(
        "where r.app_id = $1 and ($2::uuid is null or r.id > $2)
         order by r.id
         limit $3"
    ))
    .bind(app)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}

pub(crate) async fn count(conn: &mut PgConnection, app: AppId) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from routes where app_id = $1").bind(app).fetch_one(conn).await
}

/// The route that answers the same requests as this one would. The app must be locked when a write
/// is to follow.
pub(crate) async fn same_shape(
    conn: &mut PgConnection,
    app: AppId,
    spec: &RouteSpec,
) -> sqlx::Result<Option<StoredRoute>> {
    sqlx::query_as(select_routes!(
        "where r.app_id = $1 and r.method = $2 and r.host_shape = $3 and r.shape = $4"
    ))
    .bind(app)
    .bind(spec.method.as_deref().unwrap_or_default())
    .bind(spec.host_shape())
    .bind(spec.pattern.shape())
    .fetch_optional(conn)
    .await
}

/// Every route of an app.
pub(crate) async fn of_app(conn: &mut PgConnection, app: AppId) -> sqlx::Result<Vec<StoredRoute>> {
    sqlx::query_as(select_routes!("where r.app_id = $1 order by r.path, r.id"))
        .bind(app)
        .fetch_all(conn)
        .await
}

/// Routes that are not for every host of their app.
pub(crate) async fn for_hosts(conn: &mut PgConnection, app: AppId) -> sqlx::Result<Vec<StoredRoute>> {
    sqlx::query_as(select_routes!("where r.app_id = $1 and r.host <> '' order by r.id"))
        .bind(app)
        .fetch_all(conn)
        .await
}

/// The routes that lead to a script.
pub(crate) async fn of_script(
    conn: &mut PgConnection,
    app: AppId,
    script: ScriptId,
) -> sqlx::Result<Vec<StoredRoute>> {
    sqlx::query_as(select_routes!(
        "where r.app_id = $1 and r.script_id = $2
         order by r.id"
    ))
    .bind(app)
    .bind(script)
    .fetch_all(conn)
    .await
}

pub(crate) async fn create(conn: &mut PgConnection, app: AppId, spec: &RouteSpec) -> sqlx::Result<RouteId> {
    let id = RouteId::new();
    sqlx::query(
        "insert into routes (app_id, id, method, path, shape, script_id, body_bytes_max,
                             host, host_shape, policy, dispatch_mode)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(app)
    .bind(id)
    .bind(spec.method.as_deref().unwrap_or_default())
    .bind(spec.pattern.to_string())
    .bind(spec.pattern.shape())
    .bind(spec.script)
    .bind(i64::from(spec.body_bytes_max))
    .bind(spec.host_text())
    .bind(spec.host_shape())
    .bind(Json(&spec.policy))
    .bind(spec.dispatch.as_str())
    .execute(conn)
    .await?;
    Ok(id)
}

pub(crate) async fn update(
    conn: &mut PgConnection,
    app: AppId,
    id: RouteId,
    spec: &RouteSpec,
) -> sqlx::Result<()> {
    sqlx::query(
        "update routes
         set method = $3, path = $4, shape = $5, script_id = $6, body_bytes_max = $7,
             host = $8, host_shape = $9, policy = $10, dispatch_mode = $11, updated_at = now()
         where app_id = $1 and id = $2",
    )
    .bind(app)
    .bind(id)
    .bind(spec.method.as_deref().unwrap_or_default())
    .bind(spec.pattern.to_string())
    .bind(spec.pattern.shape())
    .bind(spec.script)
    .bind(i64::from(spec.body_bytes_max))
    .bind(spec.host_text())
    .bind(spec.host_shape())
    .bind(Json(&spec.policy))
    .bind(spec.dispatch.as_str())
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes routes for one host be for another.
pub(crate) async fn move_host(conn: &mut PgConnection, app: AppId, from: &str, to: &str) -> sqlx::Result<()> {
    sqlx::query(
        "update routes set host = $3, host_shape = $3, updated_at = now() where app_id = $1 and host = $2",
    )
    .bind(app)
    .bind(from)
    .bind(to)
    .execute(conn)
    .await?;
    Ok(())
}

/// False when there was no such route.
pub(crate) async fn delete(conn: &mut PgConnection, app: AppId, id: RouteId) -> sqlx::Result<bool> {
    let done = sqlx::query("delete from routes where app_id = $1 and id = $2")
        .bind(app)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() == 1)
}
