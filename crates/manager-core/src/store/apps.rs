//! Apps.

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::id::AppId;
use shared::name::AppSlug;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use super::columns;

/// Name of the constraint that keeps slugs unique.
pub(crate) const SLUG_KEY: &str = "apps_slug_key";

/// The columns of an [`App`].
macro_rules! columns {
    () => {
        "id, slug, name, is_default, created_at, updated_at"
    };
}

/// A tenant.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct App {
    pub(crate) id: AppId,
    pub(crate) slug: AppSlug,
    pub(crate) name: String,
    pub(crate) is_default: bool,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for App {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            slug: columns::parsed(row, "slug")?,
            name: row.try_get("name")?,
            is_default: row.try_get("is_default")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

pub(crate) async fn by_id(conn: &mut PgConnection, id: AppId) -> sqlx::Result<Option<App>> {
    sqlx::query_as(concat!("select ", columns!(), " from apps where id = $1"))
        .bind(id)
        .fetch_optional(conn)
        .await
}

pub(crate) async fn by_slug(conn: &mut PgConnection, slug: &str) -> sqlx::Result<Option<App>> {
    sqlx::query_as(concat!("select ", columns!(), " from apps where slug = $1"))
        .bind(slug)
        .fetch_optional(conn)
        .await
}

/// Every app.
pub(crate) async fn all(conn: &mut PgConnection) -> sqlx::Result<Vec<App>> {
    sqlx::query_as(concat!("select ", columns!(), " from apps order by id")).fetch_all(conn).await
}

/// Apps in the order of their slugs, those after `after`.
pub(crate) async fn page(conn: &mut PgConnection, after: Option<&str>, limit: i64) -> sqlx::Result<Vec<App>> {
    sqlx::query_as(concat!(
        "select ",
        columns!(),
        r#" from apps
         where $1::text is null or slug collate "C" > $1
         order by slug collate "C"
         limit $2"#
    ))
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}

pub(crate) async fn default_app(conn: &mut PgConnection) -> sqlx::Result<Option<AppId>> {
    sqlx::query_scalar("select id from apps where is_default").fetch_optional(conn).await
}

pub(crate) async fn create(
    conn: &mut PgConnection,
    slug: &AppSlug,
    name: &str,
    is_default: bool,
) -> sqlx::Result<App> {
    sqlx::query_as(concat!(
        "insert into apps (id, slug, name, is_default)
             values ($1, $2, $3, $4)
             returning ",
        columns!()
    ))
    .bind(AppId::new())
    .bind(slug.as_str())
    .bind(name)
    .bind(is_default)
    .fetch_one(conn)
    .await
}

pub(crate) async fn make_default(conn: &mut PgConnection, id: AppId) -> sqlx::Result<()> {
    sqlx::query("update apps set is_default = true where id = $1").bind(id).execute(conn).await?;
    Ok(())
}

/// Changes what is given and answers the app as it is then; nothing when there is no such app.
pub(crate) async fn update(
    conn: &mut PgConnection,
    id: AppId,
    slug: Option<&AppSlug>,
    name: Option<&str>,
) -> sqlx::Result<Option<App>> {
    sqlx::query_as(concat!(
        "update apps
             set slug = coalesce($2, slug), name = coalesce($3, name), updated_at = now()
             where id = $1
             returning ",
        columns!()
    ))
    .bind(id)
    .bind(slug.map(AppSlug::as_str))
    .bind(name)
    .fetch_optional(conn)
    .await
}

/// Makes changes to the app's scripts and routes wait for each other until the transaction ends.
/// False when the app is gone. The recorder's inserts do not wait for this lock.
pub(crate) async fn lock(conn: &mut PgConnection, id: AppId) -> sqlx::Result<bool> {
    let found = sqlx::query("select id from apps where id = $1 for no key update")
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(found.is_some())
}

/// How many scripts an app has.
pub(crate) async fn script_count(conn: &mut PgConnection, id: AppId) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from scripts where app_id = $1").bind(id).fetch_one(conn).await
}

/// Removes an app with everything of it.
pub(crate) async fn delete(conn: &mut PgConnection, id: AppId) -> sqlx::Result<()> {
    sqlx::query("delete from apps where id = $1").bind(id).execute(conn).await?;
    Ok(())
}
