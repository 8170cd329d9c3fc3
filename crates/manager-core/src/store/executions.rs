//! Execution records: written in batches by the recorder, read by the admin API.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use shared::id::{AppId, DeliveryId, ExecutionId, ScriptId};
use shared::script::BundleHash;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::types::Json;
use sqlx::{FromRow, Row};

use super::columns;

/// One row. Numbers have the widths of the table.
#[derive(Debug, Clone)]
pub(crate) struct ExecutionRow {
    pub(crate) app_id: AppId,
    pub(crate) id: ExecutionId,
    pub(crate) script_id: ScriptId,
    pub(crate) script_name: String,
    pub(crate) version: i32,
    pub(crate) bundle_hash: BundleHash,
    pub(crate) request_id: String,
    pub(crate) invocation_type: String,
    /// Where its chain began; none when it began one itself.
    pub(crate) root_id: Option<ExecutionId>,
    pub(crate) parent_id: Option<ExecutionId>,
    pub(crate) depth: i32,
    pub(crate) delivery_id: Option<DeliveryId>,
    pub(crate) attempt: Option<i32>,
    pub(crate) status: String,
    pub(crate) http_status: Option<i16>,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) duration_us: i64,
    pub(crate) queued_us: i64,
    pub(crate) fuel: i64,
    pub(crate) peak_memory_bytes: i64,
    pub(crate) host_calls: i32,
    pub(crate) error: Option<Box<RawValue>>,
    pub(crate) logs: Box<RawValue>,
}

impl FromRow<'_, PgRow> for ExecutionRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let error: Option<Json<Box<RawValue>>> = row.try_get("error")?;
        Ok(Self {
            app_id: row.try_get("app_id")?,
            id: row.try_get("id")?,
            script_id: row.try_get("script_id")?,
            script_name: row.try_get("script_name")?,
            version: row.try_get("version")?,
            bundle_hash: columns::hash(row, "bundle_hash")?,
            request_id: row.try_get("request_id")?,
            invocation_type: row.try_get("invocation_type")?,
            root_id: row.try_get("root_id")?,
            parent_id: row.try_get("parent_id")?,
            depth: row.try_get("depth")?,
            delivery_id: row.try_get("delivery_id")?,
            attempt: row.try_get("attempt")?,
            status: row.try_get("status")?,
            http_status: row.try_get("http_status")?,
            started_at: row.try_get("started_at")?,
            duration_us: row.try_get("duration_us")?,
            queued_us: row.try_get("queued_us")?,
            fuel: row.try_get("fuel")?,
            peak_memory_bytes: row.try_get("peak_memory_bytes")?,
            host_calls: row.try_get("host_calls")?,
            error: error.map(|Json(error)| error),
            logs: columns::json(row, "logs")?,
        })
    }
}

/// Which executions a list shows.
#[derive(Debug, Default)]
pub(crate) struct Filter<'a> {
    pub(crate) script: Option<&'a str>,
    pub(crate) status: Option<&'a str>,
    pub(crate) since: Option<DateTime<Utc>>,
    /// Attempts of this delivery only.
    pub(crate) delivery: Option<DeliveryId>,
    pub(crate) before: Option<ExecutionId>,
}

/// Executions of an app, newest first.
pub(crate) async fn page(
    conn: &mut PgConnection,
    app: AppId,
    filter: &Filter<'_>,
    limit: i64,
) -> sqlx::Result<Vec<ExecutionRow>> {
    // The list does not show logs: reading up to 256 KiB for each row would be for nothing.
    sqlx::query_as(
        "select app_id, id, script_id, script_name, version, bundle_hash, request_id, invocation_type,
                root_id, parent_id, depth, delivery_id, attempt,
                status, http_status, started_at, duration_us, queued_us, fuel, peak_memory_bytes,
                host_calls, error, '[]'::json as logs
         from executions
         where app_id = $1
           and ($2::text is null or script_name = $2)
           and ($3::text is null or status = $3)
           and ($4::timestamptz is null or started_at >= $4)
           and ($5::uuid is null or id < $5)
           and ($6::uuid is null or delivery_id = $6)
         order by id desc
         limit $7",
    )
    .bind(app)
    .bind(filter.script)
    .bind(filter.status)
    .bind(filter.since)
    .bind(filter.before)
    .bind(filter.delivery)
    .bind(limit)
    .fetch_all(conn)
    .await
}

pub(crate) async fn by_id(
    conn: &mut PgConnection,
    app: AppId,
    id: ExecutionId,
) -> sqlx::Result<Option<ExecutionRow>> {
    sqlx::query_as(
        "select app_id, id, script_id, script_name, version, bundle_hash, request_id, invocation_type,
                root_id, parent_id, depth, delivery_id, attempt,
                status, http_status, started_at, duration_us, queued_us, fuel, peak_memory_bytes,
                host_calls, error, logs
         from executions
         where app_id = $1 and id = $2",
    )
    .bind(app)
    .bind(id)
    .fetch_optional(conn)
    .await
}

/// Executions of a chain of events, the oldest first.
pub(crate) async fn of_chain(
    conn: &mut PgConnection,
    app: AppId,
    root: ExecutionId,
    limit: i64,
) -> sqlx::Result<Vec<ExecutionRow>> {
    sqlx::query_as(
        "select app_id, id, script_id, script_name, version, bundle_hash, request_id, invocation_type,
                root_id, parent_id, depth, delivery_id, attempt,
                status, http_status, started_at, duration_us, queued_us, fuel, peak_memory_bytes,
                host_calls, error, '[]'::json as logs
         from executions
         where app_id = $1 and (id = $2 or root_id = $2)
         order by id
         limit $3",
    )
    .bind(app)
    .bind(root)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// The newest record of an app when `newer` newer ones are passed over.
pub(crate) async fn nth_newest(
    conn: &mut PgConnection,
    app: AppId,
    newer: u32,
) -> sqlx::Result<Option<ExecutionId>> {
    sqlx::query_scalar(
        "select id
         from executions
         where app_id = $1
         order by id desc
         offset $2
         limit 1",
    )
    .bind(app)
    .bind(i64::from(newer))
    .fetch_optional(conn)
    .await
}

/// Removes the oldest records of an app, none younger than `last`; answers how many.
pub(crate) async fn delete_up_to(
    conn: &mut PgConnection,
    app: AppId,
    last: ExecutionId,
    limit: i64,
) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "delete from executions
         where app_id = $1
           and id = any(array(
               select id
               from executions
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

/// Bytes of an app's logs as they are stored, which are known without reading what is large.
pub(crate) async fn log_bytes(conn: &mut PgConnection, app: AppId) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select coalesce(sum(pg_column_size(logs)), 0)
         from executions
         where app_id = $1",
    )
    .bind(app)
    .fetch_one(conn)
    .await
}

/// The newest record of an app for whose log there is no room: with those of all newer ones it has more than so many
/// bytes.
pub(crate) async fn first_log_too_many(
    conn: &mut PgConnection,
    app: AppId,
    bytes: i64,
) -> sqlx::Result<Option<ExecutionId>> {
    sqlx::query_scalar(
        "select id
         from (
             select id, sum(pg_column_size(logs)) over (order by id desc rows unbounded preceding) as bytes
             from executions
             where app_id = $1
         ) newest_first
         where bytes > $2
         order by id desc
         limit 1",
    )
    .bind(app)
    .bind(bytes)
    .fetch_optional(conn)
    .await
}

/// Puts this in place of an app's logs from after one record up to another, the oldest first, `limit` of them at most;
/// answers the newest of these and how many were replaced, none when there were none. Those that are no longer than it,
/// with the length that goes before it, stay as they are; what somebody removes meanwhile is not replaced.
pub(crate) async fn replace_logs(
    conn: &mut PgConnection,
    app: AppId,
    after: Option<ExecutionId>,
    last: ExecutionId,
    logs: &RawValue,
    limit: u32,
) -> sqlx::Result<Option<(ExecutionId, i64)>> {
    // An `or` would keep the start out of the index's condition: each batch would pass over all before it.
    sqlx::query_as(
        "with oldest as materialized (
             select id
             from executions
             where app_id = $1
               and id > coalesce($2, '00000000-0000-0000-0000-000000000000'::uuid)
               and id <= $3
               and pg_column_size(logs) > octet_length($4::text) + 4
             order by id
             limit $5
         ), replaced as (
             update executions e
             set logs = $4::text::json
             from oldest o
             where e.app_id = $1 and e.id = o.id
             returning e.id
         )
         select id, (select count(*) from replaced)
         from oldest
         order by id desc
         limit 1",
    )
    .bind(app)
    .bind(after)
    .bind(last)
    .bind(logs.get())
    .bind(i64::from(limit))
    .fetch_optional(conn)
    .await
}

/// Has the database use the place again of what is gone. On a connection of its own: it takes long. Nobody is locked out,
/// so the table becomes no shorter.
pub(crate) async fn vacuum(conn: &mut PgConnection) -> sqlx::Result<()> {
    // As autovacuum has it. Unless it is told, one that is asked for takes all of the disk that it gets.
    sqlx::query("set vacuum_cost_delay = '2ms'").execute(&mut *conn).await?;
    sqlx::query("vacuum (truncate off) executions").execute(conn).await?;
    Ok(())
}

/// Writes rows in one statement. Rows that are there already, and rows of apps that are gone or being removed, are
/// passed over, so that a batch may be sent again. Apps that somebody has locked against every reference to them are
/// not waited for, because all others would wait, too: answers which, and nothing of theirs is written.
pub(crate) async fn insert(conn: &mut PgConnection, rows: &[ExecutionRow]) -> sqlx::Result<Vec<AppId>> {
    sqlx::query_scalar(
        "with free as (
             select id
             from apps
             where id = any($1::uuid[]) and removing_at is null
             for key share skip locked
         ), written as (
             insert into executions (app_id, id, script_id, script_name, version, bundle_hash, request_id,
                                     invocation_type, status, http_status, started_at, duration_us,
                                     queued_us, fuel, peak_memory_bytes, host_calls, error, logs,
                                     root_id, parent_id, depth, delivery_id, attempt)
             select r.app_id, r.id, r.script_id, r.script_name, r.version, r.bundle_hash, r.request_id,
                    r.invocation_type, r.status, r.http_status, r.started_at, r.duration_us,
                    r.queued_us, r.fuel, r.peak_memory_bytes, r.host_calls, r.error, r.logs,
                    r.root_id, r.parent_id, r.depth, r.delivery_id, r.attempt
             from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::int[], $6::bytea[], $7::text[],
                         $8::text[], $9::text[], $10::smallint[], $11::timestamptz[], $12::bigint[],
                         $13::bigint[], $14::bigint[], $15::bigint[], $16::int[], $17::json[], $18::json[],
                         $19::uuid[], $20::uuid[], $21::int[], $22::uuid[], $23::int[])
                  as r (app_id, id, script_id, script_name, version, bundle_hash, request_id,
                        invocation_type, status, http_status, started_at, duration_us,
                        queued_us, fuel, peak_memory_bytes, host_calls, error, logs,
                        root_id, parent_id, depth, delivery_id, attempt)
             join free on free.id = r.app_id
             on conflict do nothing
         )
         select id
         from apps
         where id = any($1::uuid[]) and removing_at is null and id not in (select id from free)",
    )
    .bind(column(rows, |row| row.app_id.as_uuid()))
    .bind(column(rows, |row| row.id.as_uuid()))
    .bind(column(rows, |row| row.script_id.as_uuid()))
    .bind(column(rows, |row| row.script_name.as_str()))
    .bind(column(rows, |row| row.version))
    .bind(column(rows, |row| row.bundle_hash.0))
    .bind(column(rows, |row| row.request_id.as_str()))
    .bind(column(rows, |row| row.invocation_type.as_str()))
    .bind(column(rows, |row| row.status.as_str()))
    .bind(column(rows, |row| row.http_status))
    .bind(column(rows, |row| row.started_at))
    .bind(column(rows, |row| row.duration_us))
    .bind(column(rows, |row| row.queued_us))
    .bind(column(rows, |row| row.fuel))
    .bind(column(rows, |row| row.peak_memory_bytes))
    .bind(column(rows, |row| row.host_calls))
    .bind(column(rows, |row| row.error.as_deref().map(RawValue::get)))
    .bind(column(rows, |row| row.logs.get()))
    .bind(column(rows, |row| row.root_id.map(ExecutionId::as_uuid)))
    .bind(column(rows, |row| row.parent_id.map(ExecutionId::as_uuid)))
    .bind(column(rows, |row| row.depth))
    .bind(column(rows, |row| row.delivery_id.map(DeliveryId::as_uuid)))
    .bind(column(rows, |row| row.attempt))
    .fetch_all(conn)
    .await
}

fn column<'a, T>(rows: &'a [ExecutionRow], value: impl Fn(&'a ExecutionRow) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}
