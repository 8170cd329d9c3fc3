//! Idempotency keys: which POSTs were done within the last 24 hours, and what was answered.

use shared::id::UserId;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;

/// Keys of one person at a time: with answers of the largest size, a quarter of a gigabyte.
const KEYS_MAX: i64 = 1_000;

/// What a key stands for when a request comes in with it.
#[derive(Debug)]
pub(crate) enum Begun {
    /// Nothing yet: the key is this request's from now on.
    New,
    /// This very request, which has no answer yet.
    InFlight,
    /// This very request, which was answered so.
    Done(Kept),
    /// Another request.
    Other,
    /// The person has too many keys for another one.
    TooMany,
}

/// An answer as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) etag: Option<String>,
    /// Absent when it shows a secret or is too long.
    pub(crate) body: Option<Vec<u8>>,
}

#[derive(FromRow)]
struct Row {
    fingerprint: Vec<u8>,
    status: Option<i16>,
    content_type: Option<String>,
    etag: Option<String>,
    body: Option<Vec<u8>>,
}

/// Takes the key for a request unless it is taken. Keys that are over are forgotten first: those of a
/// day ago, and those of requests that got no answer because the server stopped. No request takes
/// ten minutes.
pub(crate) async fn begin(
    conn: &mut PgConnection,
    user: UserId,
    key: &str,
    fingerprint: [u8; 32],
) -> sqlx::Result<Begun> {
    sqlx::query(
        "delete from idempotency_keys
         where begun_at < now() - interval '24 hours'
            or (status is null and begun_at < now() - interval '10 minutes')",
    )
    .execute(&mut *conn)
    .await?;
    let taken = sqlx::query(
        "insert into idempotency_keys (user_id, key, fingerprint)
         select $1, $2, $3
         where (select count(*) from idempotency_keys where user_id = $1) < $4
         on conflict (user_id, key) do nothing",
    )
    .bind(user)
    .bind(key)
    .bind(&fingerprint[..])
    .bind(KEYS_MAX)
    .execute(&mut *conn)
    .await?;
    if taken.rows_affected() == 1 {
        return Ok(Begun::New);
    }
    let row: Option<Row> = sqlx::query_as(
        "select fingerprint, status, content_type, etag, body
         from idempotency_keys
         where user_id = $1 and key = $2",
    )
    .bind(user)
    .bind(key)
    .fetch_optional(conn)
    .await?;
    Ok(match row {
        None => Begun::TooMany,
        Some(row) if row.fingerprint != fingerprint => Begun::Other,
        Some(Row { status: None, .. }) => Begun::InFlight,
        Some(Row { status: Some(status), content_type, etag, body, .. }) => {
            Begun::Done(Kept { status: u16::try_from(status).unwrap_or(200), content_type, etag, body })
        }
    })
}

/// Keeps the answer.
pub(crate) async fn finish(
    conn: &mut PgConnection,
    user: UserId,
    key: &str,
    kept: &Kept,
) -> sqlx::Result<()> {
    sqlx::query(
        "update idempotency_keys
         set status = $3, content_type = $4, etag = $5, body = $6
         where user_id = $1 and key = $2",
    )
    .bind(user)
    .bind(key)
    .bind(i16::try_from(kept.status).unwrap_or(200))
    .bind(&kept.content_type)
    .bind(&kept.etag)
    .bind(&kept.body)
    .execute(conn)
    .await?;
    Ok(())
}

/// Frees the key: nothing was done.
pub(crate) async fn forget(conn: &mut PgConnection, user: UserId, key: &str) -> sqlx::Result<()> {
    sqlx::query("delete from idempotency_keys where user_id = $1 and key = $2")
        .bind(user)
        .bind(key)
        .execute(conn)
        .await?;
    Ok(())
}
