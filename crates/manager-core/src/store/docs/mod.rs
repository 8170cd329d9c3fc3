//! Documents: JSON by collection and id.

pub(crate) mod find;
pub(crate) mod indexes;
pub(crate) mod schemas;

use chrono::{DateTime, Utc};
use shared::host_call::docs::Mode;
use shared::id::AppId;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// A document. Its data is JSON text.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(crate) struct DocumentRow {
    pub(crate) id: Uuid,
    pub(crate) data: String,
    pub(crate) version: i64,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

/// A change of a document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change<'a> {
    pub(crate) collection: &'a str,
    pub(crate) id: Uuid,
    pub(crate) data: &'a str,
    pub(crate) mode: Mode,
}

/// What a document became, and what it was.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(crate) struct Changed {
    pub(crate) version: i64,
    pub(crate) data: String,
    pub(crate) prev: String,
}

pub(crate) async fn insert(
    conn: &mut PgConnection,
    app: AppId,
    collection: &str,
    id: Uuid,
    data: &str,
) -> sqlx::Result<()> {
    sqlx::query("insert into docs (app_id, collection, id, data) values ($1, $2, $3, $4::jsonb)")
        .bind(app)
        .bind(collection)
        .bind(id)
        .bind(data)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn get(
    conn: &mut PgConnection,
    app: AppId,
    collection: &str,
    id: Uuid,
) -> sqlx::Result<Option<DocumentRow>> {
    sqlx::query_as(
        "select id, data::text as data, version, created_at, updated_at from docs
         where app_id = $1 and collection = $2 and id = $3",
    )
    .bind(app)
    .bind(collection)
    .bind(id)
    .fetch_optional(conn)
    .await
}

/// The version of a document, which nobody changes until the transaction ends.
pub(crate) async fn lock(
    conn: &mut PgConnection,
    app: AppId,
    collection: &str,
    id: Uuid,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar(
        "select version from docs where app_id = $1 and collection = $2 and id = $3 for update",
    )
    .bind(app)
    .bind(collection)
    .bind(id)
    .fetch_optional(conn)
    .await
}

macro_rules! update {
    ($data:literal) => {
        concat!(
            "update docs
             set data = ",
            $data,
            ", version = greatest(docs.version + 1, kv_version()), updated_at = statement_timestamp()
             from (
                 select id, data from docs where app_id = $1 and collection = $2 and id = $3 for update
             ) old
             where docs.app_id = $1 and docs.collection = $2 and docs.id = old.id
               and ($5::bigint is null or docs.version = $5)
             returning docs.version, docs.data::text as data, old.data::text as prev"
        )
    };
}

/// Changes a document, if it is of the version, where one is given.
pub(crate) async fn update(
    conn: &mut PgConnection,
    app: AppId,
    change: &Change<'_>,
    if_version: Option<i64>,
) -> sqlx::Result<Option<Changed>> {
    let sql = match change.mode {
        Mode::Replace => update!("$4::jsonb"),
        Mode::Merge => update!("doc_merge(docs.data, $4::jsonb)"),
    };
    sqlx::query_as(sql)
        .bind(app)
        .bind(change.collection)
        .bind(change.id)
        .bind(change.data)
        .bind(if_version)
        .fetch_optional(conn)
        .await
}

/// Removes a document; answers what it was.
pub(crate) async fn delete(
    conn: &mut PgConnection,
    app: AppId,
    collection: &str,
    id: Uuid,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(
        "delete from docs where app_id = $1 and collection = $2 and id = $3 returning data::text",
    )
    .bind(app)
    .bind(collection)
    .bind(id)
    .fetch_optional(conn)
    .await
}

/// Names of an app's collections after this one, without reading what is in them.
pub(crate) async fn collections(
    conn: &mut PgConnection,
    app: AppId,
    after: &str,
    limit: i64,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "with recursive names as (
             (select collection from docs where app_id = $1 and collection > $2
              order by collection limit 1)
             union all
             select (select collection from docs
                     where app_id = $1 and collection > names.collection order by collection limit 1)
             from names where names.collection is not null
         )
         select collection from names where collection is not null limit $3",
    )
    .bind(app)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}
