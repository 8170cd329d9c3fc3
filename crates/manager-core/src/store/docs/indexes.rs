//! Indexes of documents: what people declared, and the indexes of PostgreSQL that come of it.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::id::AppId;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

/// An index that was declared.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize, JsonSchema)]
pub(crate) struct DocIndex {
    pub(crate) id: Uuid,
    pub(crate) collection: String,
    /// The members that it is by, the first first.
    pub(crate) members: Vec<String>,
    /// `building`, `ready`, or `failed`.
    pub(crate) state: String,
    /// Why it could not be built.
    pub(crate) error: Option<String>,
    pub(crate) created_at: DateTime<Utc>,
}

/// Before the id in the name of an index.
const PREFIX: &str = "docs_by_";
/// Held by the process that builds. A number that no other lock of this database has.
const BUILDER_LOCK: i64 = 0x7069_636c_6f75_6402;

pub(crate) async fn insert(
    conn: &mut PgConnection,
    app: AppId,
    collection: &str,
    members: &[String],
) -> sqlx::Result<DocIndex> {
    sqlx::query_as(
        "insert into doc_indexes (id, app_id, collection, members) values ($1, $2, $3, $4)
         returning id, collection, members, state, error, created_at",
    )
    .bind(Uuid::now_v7())
    .bind(app)
    .bind(collection)
    .bind(members)
    .fetch_one(conn)
    .await
}

/// How many the app has, and how many all apps have.
pub(crate) async fn count(conn: &mut PgConnection, app: AppId) -> sqlx::Result<(i64, i64)> {
    sqlx::query_as("select count(*) filter (where app_id = $1), count(*) from doc_indexes")
        .bind(app)
        .fetch_one(conn)
        .await
}

/// An app's indexes after this one, in the order in which they were declared.
pub(crate) async fn page(
    conn: &mut PgConnection,
    app: AppId,
    after: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<DocIndex>> {
    sqlx::query_as(
        "select id, collection, members, state, error, created_at
         from doc_indexes
         where app_id = $1 and ($2::uuid is null or id > $2)
         order by id
         limit $3",
    )
    .bind(app)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// Removes a declaration; answers what it was.
pub(crate) async fn delete(conn: &mut PgConnection, app: AppId, id: Uuid) -> sqlx::Result<Option<DocIndex>> {
    sqlx::query_as(
        "delete from doc_indexes where app_id = $1 and id = $2
         returning id, collection, members, state, error, created_at",
    )
    .bind(app)
    .bind(id)
    .fetch_optional(conn)
    .await
}

/// Becomes the one who builds, for as long as the connection lasts; false when there is another.
pub(crate) async fn become_builder(conn: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(BUILDER_LOCK).fetch_one(conn).await
}

pub(crate) async fn leave_builder(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_unlock($1)").bind(BUILDER_LOCK).execute(conn).await?;
    Ok(())
}

/// What waits to be built, the oldest first.
pub(crate) async fn next_to_build(conn: &mut PgConnection) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar("select id from doc_indexes where state = 'building' order by id limit 1")
        .fetch_optional(conn)
        .await
}

/// Indexes of PostgreSQL that nobody declares any more.
pub(crate) async fn undeclared(conn: &mut PgConnection) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
        "select id from (
             select substr(indexname, length($1) + 1)::uuid as id
             from pg_indexes
             where schemaname = current_schema and tablename = 'docs' and indexname ~ ('^' || $1 || '[0-9a-f]{32}$')
         ) built
         where not exists (select from doc_indexes where doc_indexes.id = built.id)",
    )
    .bind(PREFIX)
    .fetch_all(conn)
    .await
}

/// Builds an index while everything goes on. One that was begun and not ended is begun anew. Nothing is
/// built when the declaration is gone.
pub(crate) async fn build(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<()> {
    drop(&mut *conn, id).await?;
    // PostgreSQL writes the names and members into the statement, as what they are and nothing else.
    let statement: Option<String> = sqlx::query_scalar(
        "select format(
             'create index concurrently %I on docs (%s, id) where app_id = %L::uuid and collection = %L',
             $2,
             (select string_agg(
                  format('(coalesce(data #> %L::text[], ''null''::jsonb))', string_to_array(member, '.')),
                  ', ' order by position
              ) from unnest(members) with ordinality as by(member, position)),
             app_id, collection
         )
         from doc_indexes where id = $1",
    )
    .bind(id)
    .bind(name(id))
    .fetch_optional(&mut *conn)
    .await?;
    let Some(statement) = statement else { return Ok(()) };
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *conn).await?;
    // An index of an expression is of no use to the planner before it knows what the values are like.
    sqlx::raw_sql("analyze docs").execute(conn).await?;
    Ok(())
}

/// Removes an index of PostgreSQL, if there is one, while everything goes on.
pub(crate) async fn drop(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<()> {
    let statement = format!("drop index concurrently if exists {}", name(id));
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await?;
    Ok(())
}

/// Says what became of an index: it is ready, or why not.
pub(crate) async fn settle(conn: &mut PgConnection, id: Uuid, error: Option<&str>) -> sqlx::Result<()> {
    sqlx::query(
        "update doc_indexes set state = case when $2::text is null then 'ready' else 'failed' end, error = $2
         where id = $1",
    )
    .bind(id)
    .bind(error)
    .execute(conn)
    .await?;
    Ok(())
}

fn name(id: Uuid) -> String {
    format!("{PREFIX}{}", id.simple())
}
