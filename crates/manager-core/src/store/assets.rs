//! Static files of apps.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::id::AppId;
use shared::ports::Asset;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

/// A file without its content.
#[derive(Debug, Clone, Serialize, FromRow, JsonSchema)]
pub(crate) struct AssetRow {
    pub(crate) path: String,
    pub(crate) content_type: String,
    pub(crate) bytes: i32,
    pub(crate) hash: String,
    pub(crate) updated_at: DateTime<Utc>,
}

/// The columns of an [`AssetRow`].
macro_rules! columns {
    () => {
        "path, content_type, octet_length(content) as bytes, encode(hash, 'hex') as hash, updated_at"
    };
}

pub(crate) async fn read(conn: &mut PgConnection, app: AppId, path: &str) -> sqlx::Result<Option<Asset>> {
    let row =
        sqlx::query("select content_type, hash, content from app_assets where app_id = $1 and path = $2")
            .bind(app)
            .bind(path)
            .fetch_optional(conn)
            .await?;
    let asset = |row: PgRow| {
        Ok(Asset {
            content_type: row.try_get("content_type")?,
            hash: row.try_get("hash")?,
            content: row.try_get("content")?,
        })
    };
    row.map(asset).transpose()
}

/// Files of an app in the order of their paths, those after `after`.
pub(crate) async fn page(
    conn: &mut PgConnection,
    app: AppId,
    after: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<AssetRow>> {
    sqlx::query_as(concat!(
        "select ",
        columns!(),
        r#" from app_assets
         where app_id = $1 and ($2::text is null or path collate "C" > $2)
         order by path collate "C"
         limit $3"#
    ))
    .bind(app)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// How many other files an app has, and their bytes together.
pub(crate) async fn others(conn: &mut PgConnection, app: AppId, path: &str) -> sqlx::Result<(i64, i64)> {
    sqlx::query_as(
        "select count(*), coalesce(sum(octet_length(content)), 0)::bigint
         from app_assets
         where app_id = $1 and path <> $2",
    )
    .bind(app)
    .bind(path)
    .fetch_one(conn)
    .await
}

/// Puts a file in its place; answers it, and whether it is another than before.
pub(crate) async fn put(
    conn: &mut PgConnection,
    app: AppId,
    path: &str,
    asset: &Asset,
) -> sqlx::Result<(AssetRow, bool)> {
    let done = sqlx::query(
        "insert into app_assets (app_id, path, content_type, hash, content)
         values ($1, $2, $3, $4, $5)
         on conflict (app_id, path) do update
         set content_type = excluded.content_type, hash = excluded.hash, content = excluded.content,
             updated_at = now()
         where (app_assets.hash, app_assets.content_type) <> (excluded.hash, excluded.content_type)",
    )
    .bind(app)
    .bind(path)
    .bind(&asset.content_type)
    .bind(asset.hash)
    .bind(&asset.content)
    .execute(&mut *conn)
    .await?;
    let row = by_path(conn, app, path).await?.ok_or(sqlx::Error::RowNotFound)?;
    Ok((row, done.rows_affected() == 1))
}

/// The file at this path, without its content.
pub(crate) async fn by_path(
    conn: &mut PgConnection,
    app: AppId,
    path: &str,
) -> sqlx::Result<Option<AssetRow>> {
    sqlx::query_as(concat!("select ", columns!(), " from app_assets where app_id = $1 and path = $2"))
        .bind(app)
        .bind(path)
        .fetch_optional(conn)
        .await
}

pub(crate) async fn delete(conn: &mut PgConnection, app: AppId, path: &str) -> sqlx::Result<()> {
    sqlx::query("delete from app_assets where app_id = $1 and path = $2")
        .bind(app)
        .bind(path)
        .execute(conn)
        .await?;
    Ok(())
}

/// The apps that have files.
pub(crate) async fn owners(conn: &mut PgConnection) -> sqlx::Result<HashSet<AppId>> {
    let apps: Vec<AppId> = sqlx::query_scalar(
        "select a.id from apps a where exists (select from app_assets f where f.app_id = a.id)",
    )
    .fetch_all(conn)
    .await?;
    Ok(apps.into_iter().collect())
}
