//! JSON Schemas of collections.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use shared::id::AppId;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;

/// What the documents of a collection must be like.
#[derive(Debug, Clone, PartialEq, FromRow, Serialize, JsonSchema)]
pub(crate) struct DocSchema {
    pub(crate) collection: String,
    pub(crate) schema: Value,
    pub(crate) updated_at: DateTime<Utc>,
}

/// The versions of all schemas, by app and collection.
pub(crate) type Versions = HashMap<AppId, HashMap<String, i64>>;

pub(crate) async fn versions(conn: &mut PgConnection) -> sqlx::Result<Versions> {
    let rows: Vec<(AppId, String, i64)> =
        sqlx::query_as("select app_id, collection, version from doc_schemas").fetch_all(conn).await?;
    let mut versions = Versions::new();
    for (app, collection, version) in rows {
        versions.entry(app).or_default().insert(collection, version);
    }
    Ok(versions)
}

/// A schema to compare with.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub(crate) struct Versioned {
    pub(crate) version: i64,
    pub(crate) schema: Value,
}

/// A collection's schema as it is now.
pub(crate) async fn current(
    conn: &mut PgConnection,
    app: AppId,
    collection: &str,
) -> sqlx::Result<Option<Versioned>> {
    sqlx::query_as("select version, schema from doc_schemas where app_id = $1 and collection = $2")
        .bind(app)
        .bind(collection)
        .fetch_optional(conn)
        .await
}

pub(crate) async fn get(
    conn: &mut PgConnection,
    app: AppId,
    collection: &str,
) -> sqlx::Result<Option<DocSchema>> {
    sqlx::query_as(
        "select collection, schema, updated_at from doc_schemas where app_id = $1 and collection = $2",
    )
    .bind(app)
    .bind(collection)
    .fetch_optional(conn)
    .await
}

/// An app's schemas after this collection, by collection.
pub(crate) async fn page(
    conn: &mut PgConnection,
    app: AppId,
    after: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<DocSchema>> {
    sqlx::query_as(
        "select collection, schema, updated_at
         from doc_schemas
         where app_id = $1 and ($2::text is null or collection > $2)
         order by collection
         limit $3",
    )
    .bind(app)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}

pub(crate) async fn put(
    conn: &mut PgConnection,
    app: AppId,
    collection: &str,
    schema: &Value,
) -> sqlx::Result<DocSchema> {
    sqlx::query_as(
        "insert into doc_schemas (app_id, collection, schema) values ($1, $2, $3)
         on conflict (app_id, collection) do update
         set schema = excluded.schema, version = excluded.version, updated_at = excluded.updated_at
         returning collection, schema, updated_at",
    )
    .bind(app)
    .bind(collection)
    .bind(schema)
    .fetch_one(conn)
    .await
}

/// How many an app has.
pub(crate) async fn count(conn: &mut PgConnection, app: AppId) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from doc_schemas where app_id = $1").bind(app).fetch_one(conn).await
}

pub(crate) async fn delete(conn: &mut PgConnection, app: AppId, collection: &str) -> sqlx::Result<bool> {
    let deleted = sqlx::query("delete from doc_schemas where app_id = $1 and collection = $2")
        .bind(app)
        .bind(collection)
        .execute(conn)
        .await?;
    Ok(deleted.rows_affected() > 0)
}
