//! How much apps keep as values and documents.

use std::time::Duration;

use shared::id::AppId;
use sqlx::postgres::PgConnection;

/// What a row takes beside its texts, about: its header, its numbers and times, and its entry in the index.
pub(crate) const ROW_BYTES: i32 = 128;

/// Longest time for a measurement, after which the database ends it.
pub(crate) const MEASURE_MAX: Duration = Duration::from_mins(2);

/// Bytes of an app's values and documents as they are stored, which is compressed where they are long. Reads the rows
/// and nothing that is stored beside them; by one processor, because others need the rest.
pub(crate) async fn bytes(conn: &mut PgConnection, app: AppId) -> sqlx::Result<i64> {
    let settings = "select set_config('max_parallel_workers_per_gather', '0', false),
                           set_config('statement_timeout', $1, false)";
    sqlx::query(settings).bind(format!("{}s", MEASURE_MAX.as_secs())).execute(&mut *conn).await?;
    sqlx::query_scalar(
        "select coalesce(sum(bytes), 0)::bigint
         from (
             select octet_length(collection) + octet_length(key) + pg_column_size(value) + $2 as bytes
             from kv
             where app_id = $1
             union all
             select octet_length(collection) + pg_column_size(data) + $2
             from docs
             where app_id = $1
         ) kept",
    )
    .bind(app)
    .bind(ROW_BYTES)
    .fetch_one(conn)
    .await
}
