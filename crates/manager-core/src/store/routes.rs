//! Routes of apps.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::id::{AppId, RouteId, ScriptId};
use shared::name::ScriptName;
use shared::route::PathPattern;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use super::columns;

/// The query of a [`StoredRoute`], with what is to follow it.
macro_rules! select_routes {
    ($rest:literal) => {
        concat!(
            "select r.id, r.method, r.path, r.dispatch_mode, r.script_id, s.name as script,
                    r.body_bytes_max, r.created_at, r.updated_at
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
    pub(crate) host: &'static str,
    pub(crate) dispatch_mode: String,
    pub(crate) script: ScriptName,
    #[serde(skip)]
    pub(crate) script_id: ScriptId,
    pub(crate) body_limit_bytes: u32,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for StoredRoute {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let method: String = row.try_get("method")?;
        Ok(Self {
            id: row.try_get("id")?,
            method: Some(method).filter(|method| !method.is_empty()),
            path: row.try_get("path")?,
            host: "any",
            dispatch_mode: row.try_get("dispatch_mode")?,
            script: columns::parsed(row, "script")?,
            script_id: row.try_get("script_id")?,
            body_limit_bytes: columns::count(row, "body_bytes_max")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

/// What makes a route.
#[derive(Debug, Clone)]
pub(crate) struct RouteSpec {
    pub(crate) method: Option<String>,
    pub(crate) pattern: PathPattern,
    pub(crate) script: ScriptId,
    pub(crate) body_bytes_max: u32,
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

/// The route that answers the same requests as this method and pattern. The app must be locked
/// when a write is to follow.
pub(crate) async fn same_shape(
    conn: &mut PgConnection,
    app: AppId,
    method: Option<&str>,
    pattern: &PathPattern,
) -> sqlx::Result<Option<StoredRoute>> {
    sqlx::query_as(select_routes!("where r.app_id = $1 and r.method = $2 and r.host = '' and r.shape = $3"))
        .bind(app)
        .bind(method.unwrap_or_default())
        .bind(pattern.shape())
        .fetch_optional(conn)
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
        "insert into routes (app_id, id, method, path, shape, script_id, body_bytes_max)
         values ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(app)
    .bind(id)
    .bind(spec.method.as_deref().unwrap_or_default())
    .bind(spec.pattern.to_string())
    .bind(spec.pattern.shape())
    .bind(spec.script)
    .bind(i64::from(spec.body_bytes_max))
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
         set method = $3, path = $4, shape = $5, script_id = $6, body_bytes_max = $7, updated_at = now()
         where app_id = $1 and id = $2",
    )
    .bind(app)
    .bind(id)
    .bind(spec.method.as_deref().unwrap_or_default())
    .bind(spec.pattern.to_string())
    .bind(spec.pattern.shape())
    .bind(spec.script)
    .bind(i64::from(spec.body_bytes_max))
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
