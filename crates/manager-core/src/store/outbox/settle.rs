//! What becomes of rows after an attempt. Every statement is fenced: it finds nothing to change when
//! the shard has another owner.

use serde_json::{Value, json};
use shared::id::DeadLetterId;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use crate::store::dead_letters::DeadLetter;

/// Errors that are kept of a delivery, the newest.
const ERRORS_MAX: i32 = 10;
/// Bytes that are kept of each.
const ERROR_BYTES_MAX: usize = 2 << 10;

/// Begins a transaction that finds rows of the outbox by their ids. A plan that was made while the table was empty reads
/// the whole of it, also when there are a hundred thousand in it a second later.
pub(crate) const BEGIN_BY_INDEX: &str = "begin; set local enable_seqscan = off";

/// The same, for what a crash may undo: nobody waits for the disk.
pub(crate) const BEGIN_BY_INDEX_LAZILY: &str =
    "begin; set local enable_seqscan = off; set local synchronous_commit = off";

/// Removes rows that are done; answers which were there. A crash may bring rows back whose removal
/// was not yet on the disk: then they run twice, which is allowed, and nobody waits for the disk.
pub(crate) async fn remove(conn: &mut PgConnection, owner: Uuid, ids: &[i64]) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar(
        "delete from outbox
         where id = any($2) and shard = any(array(select s.shard from outbox_shards s where s.owner = $1))
         returning id",
    )
    .bind(owner)
    .bind(ids)
    .fetch_all(conn)
    .await
}

/// What a row is to be until its next attempt.
#[derive(Debug)]
pub(crate) struct Later {
    pub(crate) id: i64,
    pub(crate) attempts: u16,
    pub(crate) strikes: u16,
    /// Seconds from now; infinity holds it.
    pub(crate) delay_s: f64,
    pub(crate) error: Option<String>,
}

/// Puts rows off; answers which were there. The shards must be locked.
pub(crate) async fn settle_later(
    conn: &mut PgConnection,
    owner: Uuid,
    rows: &[Later],
) -> sqlx::Result<Vec<i64>> {
    let errors: Vec<Option<Json<Value>>> = rows
        .iter()
        .map(|row| row.error.as_deref().map(|message| Json(error_entry(row.attempts, message))))
        .collect();
    sqlx::query_scalar(
        "update outbox o
         set attempts = r.attempts,
             strikes = r.strikes,
             due_at = case when r.delay = 'infinity' then 'infinity'::timestamptz
                           else clock_timestamp() + r.delay * interval '1 second' end,
             errors = case when r.error is null then o.errors
                           when jsonb_array_length(o.errors) < $7 then o.errors || r.error
                           else (o.errors - 0) || r.error end
         from unnest($2::bigint[], $3::smallint[], $4::smallint[], $5::float8[], $6::jsonb[])
              as r (id, attempts, strikes, delay, error),
              outbox_shards s
         where o.id = r.id and s.shard = o.shard and s.owner = $1
         returning o.id",
    )
    .bind(owner)
    .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| small(row.attempts)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| small(row.strikes)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.delay_s).collect::<Vec<_>>())
    .bind(errors)
    .bind(ERRORS_MAX)
    .fetch_all(conn)
    .await
}

/// Writes strikes down before rows run; answers which rows are still there.
pub(crate) async fn set_strikes(
    conn: &mut PgConnection,
    owner: Uuid,
    rows: &[(i64, u16)],
) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar(
        "update outbox o
         set strikes = r.strikes
         from unnest($2::bigint[], $3::smallint[]) as r (id, strikes), outbox_shards s
         where o.id = r.id and s.shard = o.shard and s.owner = $1
         returning o.id",
    )
    .bind(owner)
    .bind(rows.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, strikes)| small(*strikes)).collect::<Vec<_>>())
    .fetch_all(conn)
    .await
}

/// A row that is given up.
#[derive(Debug)]
pub(crate) struct Burial {
    pub(crate) id: i64,
    pub(crate) reason: &'static str,
    pub(crate) attempts: u16,
    pub(crate) error: Option<String>,
}

/// A row that became a dead letter.
#[derive(Debug, FromRow)]
pub(crate) struct Buried {
    pub(crate) row_id: i64,
    #[sqlx(flatten)]
    pub(crate) letter: DeadLetter,
}

/// Makes dead letters of rows, in one statement with their removal. Those of apps that are gone, or being removed, are
/// only removed. What is answered has nothing of requests, which nobody looks at and which may have 32 MiB each. The
/// shards must be locked.
pub(crate) async fn bury(
    conn: &mut PgConnection,
    owner: Uuid,
    rows: &[Burial],
) -> sqlx::Result<(Vec<i64>, Vec<DeadLetter>)> {
    let errors: Vec<Option<Json<Value>>> = rows
        .iter()
        .map(|row| row.error.as_deref().map(|message| Json(error_entry(row.attempts, message))))
        .collect();
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let letters: Vec<Uuid> = rows.iter().map(|_| DeadLetterId::new().as_uuid()).collect();
    let buried: Vec<Buried> = sqlx::query_as(
        "with gone as (
             delete from outbox o
             using unnest($2::bigint[], $3::uuid[], $4::text[], $5::smallint[], $6::jsonb[])
                   as r (id, letter, reason, attempts, error),
                   outbox_shards s
             where o.id = r.id and s.shard = o.shard and s.owner = $1
             returning o.*, r.letter, r.reason, r.attempts as made,
                       case when r.error is null then o.errors
                            when jsonb_array_length(o.errors) < $7 then o.errors || r.error
                            else (o.errors - 0) || r.error end as all_errors
         ), kept as (
             insert into dead_letters (app_id, id, delivery_id, kind, trigger_id, script_id, version,
                                       reason, attempts, errors, root_id, parent_id, depth, order_key,
                                       max_attempts, base_ms, cap_ms, payload, enqueued_at)
             select g.app_id, g.letter, g.delivery_id, g.kind, g.trigger_id, g.script_id, g.version,
                    g.reason, g.made, g.all_errors, g.root_id, g.parent_id, g.depth, g.order_key,
                    g.max_attempts, g.base_ms, g.cap_ms, g.payload, g.enqueued_at
             from gone g
             join apps a on a.id = g.app_id and a.removing_at is null
             returning app_id, id, delivery_id, kind, trigger_id, script_id, reason, attempts, errors,
                       root_id, parent_id, depth, order_key, max_attempts, base_ms, cap_ms,
                       case when kind = 'http' then ''::bytea else payload end as payload,
                       failed_at, resolution, resolved_at
         )
         select g.id as row_id, k.app_id, k.id, k.delivery_id, k.kind, k.trigger_id, k.script_id,
                null::text as script, k.reason, k.attempts, k.errors, k.root_id, k.parent_id, k.depth,
                k.order_key, k.max_attempts, k.base_ms, k.cap_ms, k.payload,
                k.failed_at, k.resolution, k.resolved_at
         from kept k
         join gone g on g.letter = k.id",
    )
    .bind(owner)
    .bind(&ids)
    .bind(letters)
    .bind(rows.iter().map(|row| row.reason).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| small(row.attempts)).collect::<Vec<_>>())
    .bind(errors)
    .bind(ERRORS_MAX)
    .fetch_all(conn)
    .await?;
    Ok(buried.into_iter().map(|buried| (buried.row_id, buried.letter)).unzip())
}

/// Removes events about dead letters whose handler failed, and notes it there; answers which rows
/// were there.
pub(crate) async fn note_failures(
    conn: &mut PgConnection,
    owner: Uuid,
    rows: &[(i64, String)],
) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar(
        "with gone as (
             delete from outbox o
             using unnest($2::bigint[], $3::text[]) as r (id, error), outbox_shards s
             where o.id = r.id and s.shard = o.shard and s.owner = $1
             returning o.id, o.app_id, o.handles, r.error
         ), noted as (
             update dead_letters d
             set resolution = 'handler_failed', resolved_at = clock_timestamp(), note = left(g.error, 2000)
             from gone g
             where d.app_id = g.app_id and d.id = g.handles and d.resolution is null
         )
         select id from gone",
    )
    .bind(owner)
    .bind(rows.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, error)| storable(error)).collect::<Vec<_>>())
    .fetch_all(conn)
    .await
}

fn error_entry(attempt: u16, message: &str) -> Value {
    json!({ "attempt": attempt, "at": chrono::Utc::now(), "message": storable(message) })
}

/// PostgreSQL's text has no U+0000.
fn storable(message: &str) -> String {
    message[..message.floor_char_boundary(ERROR_BYTES_MAX)].replace('\0', "\u{fffd}")
}

fn small(number: u16) -> i16 {
    i16::try_from(number).unwrap_or(i16::MAX)
}
