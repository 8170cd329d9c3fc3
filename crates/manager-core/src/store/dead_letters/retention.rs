//! Removing dead letters that are too old, or too much for one app.

use chrono::{DateTime, Utc};
use shared::id::{AppId, DeadLetterId};
use sqlx::postgres::PgConnection;

/// The newest dead letter of an app for which there is no room: beside it there are so many newer ones, or they
/// have, together with it, more than so many bytes. Their sizes are known without reading what is large.
pub(crate) async fn first_too_many(
    conn: &mut PgConnection,
    app: AppId,
    newer: u32,
    bytes: i64,
) -> sqlx::Result<Option<DeadLetterId>> {
    sqlx::query_scalar(
        "select id
         from (
             select id,
                    row_number() over newest_first as place,
                    sum(octet_length(payload) + pg_column_size(errors)) over newest_first as bytes
             from dead_letters
             where app_id = $1
             window newest_first as (order by id desc rows unbounded preceding)
         ) letters
         where place > $2 or bytes > $3
         order by id desc
         limit 1",
    )
    .bind(app)
    .bind(i64::from(newer))
    .bind(bytes)
    .fetch_optional(conn)
    .await
}

/// Removes the oldest dead letters of an app, none younger than `last`; answers how many.
pub(crate) async fn delete_up_to(
    conn: &mut PgConnection,
    app: AppId,
    last: DeadLetterId,
    limit: i64,
) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "delete from dead_letters
         where app_id = $1
           and id = any(array(
               select id
               from dead_letters
               where app_id = $1 and id <= $2
               order by id
               limit $3
           ))",
    )
    .bind(app)
    .bind(last)
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Removes some that failed before this, the oldest; answers how many.
pub(crate) async fn delete_before(
    conn: &mut PgConnection,
    time: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "delete from dead_letters
         where (app_id, id) in (
             select app_id, id from dead_letters where failed_at < $1 order by failed_at limit $2
         )",
    )
    .bind(time)
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
