//! Files: everything but what is in them.

use chrono::{DateTime, Utc};
use shared::id::AppId;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(crate) struct FileRow {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) content_type: String,
    pub(crate) size: i64,
    pub(crate) checksum: Vec<u8>,
    pub(crate) blob: Uuid,
    pub(crate) chunk_bytes: i32,
    /// SHA-256 of each chunk, one after the other.
    pub(crate) chunks: Vec<u8>,
    pub(crate) version: i64,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

/// The columns of a [`FileRow`].
macro_rules! columns {
    () => {
        "id, name, content_type, size, checksum, blob, chunk_bytes, chunks, version, created_at, updated_at"
    };
}

/// A content that has been stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) blob: Uuid,
    pub(crate) size: i64,
    pub(crate) checksum: [u8; 32],
    pub(crate) chunk_bytes: i32,
    pub(crate) chunks: Vec<u8>,
}

pub(crate) async fn get(
    conn: &mut PgConnection,
    app: AppId,
    collection: &str,
    id: Uuid,
) -> sqlx::Result<Option<FileRow>> {
    sqlx::query_as(concat!(
        "select ",
        columns!(),
        " from files where app_id = $1 and collection = $2 and id = $3"
    ))
    .bind(app)
    .bind(collection)
    .bind(id)
    .fetch_optional(conn)
    .await
}

/// The same, and nobody changes it until the transaction ends.
pub(crate) async fn lock(
    conn: &mut PgConnection,
    app: AppId,
    collection: &str,
    id: Uuid,
) -> sqlx::Result<Option<FileRow>> {
    sqlx::query_as(concat!(
        "select ",
        columns!(),
        " from files where app_id = $1 and collection = $2 and id = $3 for update"
    ))
    .bind(app)
    .bind(collection)
    .bind(id)
    .fetch_optional(conn)
    .await
}

pub(crate) async fn insert(
    conn: &mut PgConnection,
    app: AppId,
    collection: &str,
    (name, content_type): (&str, &str),
    stored: &Stored,
) -> sqlx::Result<FileRow> {
    sqlx::query_as(concat!(
        "insert into files (app_id, collection, id, name, content_type, size, checksum, blob, chunk_bytes, chunks)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) returning ",
        columns!()
    ))
    .bind(app)
    .bind(collection)
    .bind(Uuid::now_v7())
    .bind(name)
    .bind(content_type)
    .bind(stored.size)
    .bind(&stored.checksum[..])
    .bind(stored.blob)
    .bind(stored.chunk_bytes)
    .bind(&stored.chunks)
    .fetch_one(conn)
    .await
}

/// Changes a file that is locked.
pub(crate) async fn update(
    conn: &mut PgConnection,
    app: AppId,
    collection: &str,
    id: Uuid,
    (name, content_type): (&str, &str),
    stored: &Stored,
) -> sqlx::Result<FileRow> {
    sqlx::query_as(concat!(
        "update files
         set name = $4, content_type = $5, size = $6, checksum = $7, blob = $8, chunk_bytes = $9, chunks = $10,
             version = greatest(version + 1, kv_version()), updated_at = statement_timestamp()
         where app_id = $1 and collection = $2 and id = $3 returning ",
        columns!()
    ))
    .bind(app)
    .bind(collection)
    .bind(id)
    .bind(name)
    .bind(content_type)
    .bind(stored.size)
    .bind(&stored.checksum[..])
    .bind(stored.blob)
    .bind(stored.chunk_bytes)
    .bind(&stored.chunks)
    .fetch_one(conn)
    .await
}

/// Removes a file; answers what it was.
pub(crate) async fn delete(
    conn: &mut PgConnection,
    app: AppId,
    collection: &str,
    id: Uuid,
) -> sqlx::Result<Option<FileRow>> {
    sqlx::query_as(concat!(
        "delete from files where app_id = $1 and collection = $2 and id = $3 returning ",
        columns!()
    ))
    .bind(app)
    .bind(collection)
    .bind(id)
    .fetch_optional(conn)
    .await
}

/// Files of a collection after this one, in the order in which they were made.
pub(crate) async fn page(
    conn: &mut PgConnection,
    app: AppId,
    collection: &str,
    after: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<FileRow>> {
    // Without the checksums of their chunks: those of a page of long files would be many megabytes.
    sqlx::query_as(
        "select id, name, content_type, size, checksum, blob, chunk_bytes, ''::bytea as chunks, version,
                created_at, updated_at
         from files
         where app_id = $1 and collection = $2 and ($3::uuid is null or id > $3)
         order by id
         limit $4",
    )
    .bind(app)
    .bind(collection)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// Names of an app's collections after this one.
pub(crate) async fn collections(
    conn: &mut PgConnection,
    app: AppId,
    after: &str,
    limit: i64,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "with recursive names as (
             (select collection from files where app_id = $1 and collection > $2
              order by collection limit 1)
             union all
             select (select collection from files
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

/// What the files of an app are together.
pub(crate) async fn usage(conn: &mut PgConnection, app: AppId) -> sqlx::Result<i64> {
    let size = sqlx::query_scalar("select size from files_usage where app_id = $1").bind(app);
    Ok(size.fetch_optional(conn).await?.unwrap_or(0))
}

/// Adds to what the files of an app are together; answers the sum.
pub(crate) async fn add_usage(
    conn: &mut PgConnection,
    app: AppId,
    size: i64,
    files: i64,
) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        // What is proposed is checked before it is found that there is a row already, so it is never below 0.
        "insert into files_usage as old (app_id, size, files)
         values ($1, greatest($2, 0::bigint), greatest($3, 0::bigint))
         on conflict (app_id) do update set size = old.size + $2, files = old.files + $3
         returning size",
    )
    .bind(app)
    .bind(size)
    .bind(files)
    .fetch_one(conn)
    .await
}

/// Those of these blobs that are a file's.
pub(crate) async fn used_blobs(conn: &mut PgConnection, blobs: &[Uuid]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar("select blob from files where blob = any($1)").bind(blobs).fetch_all(conn).await
}
