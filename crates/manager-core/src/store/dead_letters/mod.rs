//! Deliveries that were given up, with everything that is known of them.

mod retention;

use chrono::{DateTime, Utc};
use serde_json::Value;
use shared::id::{AppId, DeadLetterId, DeliveryId, ExecutionId, ScriptId, TriggerId};
use sqlx::FromRow;
use sqlx::postgres::PgConnection;

pub(crate) use self::retention::{delete_before, delete_up_to, first_too_many};

/// One row, with what runs and handlers of it need.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct DeadLetter {
    pub(crate) app_id: AppId,
    pub(crate) id: DeadLetterId,
    pub(crate) delivery_id: DeliveryId,
    pub(crate) kind: String,
    pub(crate) trigger_id: Option<TriggerId>,
    pub(crate) script_id: ScriptId,
    /// The script's name; none when it is gone, and where nobody asks.
    pub(crate) script: Option<String>,
    pub(crate) reason: String,
    pub(crate) attempts: i16,
    #[sqlx(json)]
    pub(crate) errors: Value,
    pub(crate) root_id: ExecutionId,
    pub(crate) parent_id: Option<ExecutionId>,
    pub(crate) depth: i32,
    pub(crate) order_key: Option<Vec<u8>>,
    pub(crate) max_attempts: i16,
    pub(crate) base_ms: i32,
    pub(crate) cap_ms: i32,
    pub(crate) payload: Vec<u8>,
    pub(crate) failed_at: DateTime<Utc>,
    pub(crate) resolution: Option<String>,
    pub(crate) resolved_at: Option<DateTime<Utc>>,
}

/// One row as a list has it. There is no payload: one may have 32 MiB, and those of a page would be in memory together.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct Listed {
    pub(crate) id: DeadLetterId,
    pub(crate) delivery_id: DeliveryId,
    pub(crate) kind: String,
    pub(crate) trigger_id: Option<TriggerId>,
    pub(crate) script_id: ScriptId,
    /// The script's name; none when it is gone.
    pub(crate) script: Option<String>,
    pub(crate) version: Option<i32>,
    pub(crate) reason: String,
    pub(crate) attempts: i16,
    #[sqlx(json)]
    pub(crate) errors: Value,
    pub(crate) root_id: ExecutionId,
    pub(crate) parent_id: Option<ExecutionId>,
    pub(crate) depth: i32,
    pub(crate) enqueued_at: DateTime<Utc>,
    pub(crate) failed_at: DateTime<Utc>,
    pub(crate) resolution: Option<String>,
    pub(crate) resolved_at: Option<DateTime<Utc>>,
    pub(crate) note: Option<String>,
    pub(crate) replayed_as: Option<DeliveryId>,
}

/// One that is open or whose handler failed, before it is read.
#[derive(Debug, Clone, Copy, FromRow)]
pub(crate) struct Unresolved {
    pub(crate) id: DeadLetterId,
    pub(crate) payload_bytes: i32,
}

/// Which dead letters are meant.
#[derive(Debug, Default, Clone)]
pub(crate) struct Filter {
    pub(crate) id: Option<DeadLetterId>,
    pub(crate) is_unresolved: bool,
    pub(crate) kind: Option<String>,
    pub(crate) script: Option<ScriptId>,
    pub(crate) trigger: Option<TriggerId>,
    pub(crate) reason: Option<String>,
    pub(crate) failed_before: Option<DateTime<Utc>>,
    pub(crate) failed_after: Option<DateTime<Utc>>,
    /// Text that stands somewhere in the event.
    pub(crate) mentions: Option<String>,
}

/// The columns of a [`DeadLetter`]; of a request, which is not shown and may have 32 MiB, without what it was.
macro_rules! letter {
    () => {
        letter!("payload")
    };
    (without request) => {
        letter!("case when kind = 'http' then ''::bytea else payload end as payload")
    };
    ($payload:literal) => {
        concat!(
            "app_id, id, delivery_id, kind, trigger_id, script_id,
             (select s.name from scripts s where s.app_id = dead_letters.app_id
                                             and s.id = dead_letters.script_id) as script,
             reason, attempts, errors, root_id, parent_id, depth, order_key, max_attempts, base_ms, cap_ms,
             failed_at, resolution, resolved_at, ",
            $payload
        )
    };
}

/// Which rows a [`Filter`] bound as $2 to $10 means.
macro_rules! filtered {
    ($verb:literal, $rest:literal) => {
        concat!(
            $verb,
            " where app_id = $1
                and ($2::uuid is null or id = $2)
                and (not $3 or resolution is null)
                and ($4::text is null or kind = $4)
                and ($5::uuid is null or script_id = $5)
                and ($6::uuid is null or trigger_id = $6)
                and ($7::text is null or reason = $7)
                and ($8::timestamptz is null or failed_at < $8)
                and ($9::timestamptz is null or failed_at >= $9)
                and ($10::text is null or position(convert_to($10, 'UTF8') in payload) > 0) ",
            $rest
        )
    };
}

/// Dead letters of an app, newest first.
pub(crate) async fn list(
    conn: &mut PgConnection,
    app: AppId,
    filter: &Filter,
    before: Option<DeadLetterId>,
    limit: i64,
) -> sqlx::Result<Vec<Listed>> {
    sqlx::query_as(filtered!(
        "select id, delivery_id, kind, trigger_id, script_id,
                (select s.name from scripts s where s.app_id = dead_letters.app_id
                                                and s.id = dead_letters.script_id) as script,
                version, reason, attempts, errors, root_id, parent_id, depth, enqueued_at, failed_at,
                resolution, resolved_at, note, replayed_as
         from dead_letters",
        "and ($11::uuid is null or id < $11)
         order by id desc
         limit $12"
    ))
    .bind(app)
    .bind(filter.id)
    .bind(filter.is_unresolved)
    .bind(&filter.kind)
    .bind(filter.script)
    .bind(filter.trigger)
    .bind(&filter.reason)
    .bind(filter.failed_before)
    .bind(filter.failed_after)
    .bind(&filter.mentions)
    .bind(before)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// The newest dead letters of an app, without the requests among their payloads; none when payloads and errors are
/// more than `bytes_max` together.
pub(crate) async fn newest(
    conn: &mut PgConnection,
    app: AppId,
    is_unresolved: bool,
    limit: i64,
    bytes_max: usize,
) -> sqlx::Result<Option<Vec<DeadLetter>>> {
    #[derive(FromRow)]
    struct Row {
        #[sqlx(flatten)]
        letter: DeadLetter,
        found: i64,
    }
    let rows: Vec<Row> = sqlx::query_as(concat!(
        "select ",
        letter!(without request),
        ", found
         from dead_letters
         join (
             select id, count(*) over () as found, sum(bytes) over (order by id desc) - bytes as bytes_before
             from (
                 select id, octet_length(errors::text)
                            + case when kind = 'http' then 0 else octet_length(payload) end as bytes
                 from dead_letters
                 where app_id = $1 and (not $2 or resolution is null)
                 order by id desc
                 limit $3
             ) newest
         ) newest using (id)
         where app_id = $1 and bytes_before <= $4
         order by id desc"
    ))
    .bind(app)
    .bind(is_unresolved)
    .bind(limit)
    .bind(i64::try_from(bytes_max).unwrap_or(i64::MAX))
    .fetch_all(conn)
    .await?;
    let found = rows.first().map_or(0, |row| usize::try_from(row.found).unwrap_or(usize::MAX));
    Ok((rows.len() == found).then(|| rows.into_iter().map(|row| row.letter).collect()))
}

/// One as it is shown to scripts: a request without its payload.
pub(crate) async fn one(
    conn: &mut PgConnection,
    app: AppId,
    id: DeadLetterId,
) -> sqlx::Result<Option<DeadLetter>> {
    sqlx::query_as(concat!(
        "select ",
        letter!(without request),
        " from dead_letters
         where app_id = $1 and id = $2"
    ))
    .bind(app)
    .bind(id)
    .fetch_optional(conn)
    .await
}

/// The payload of one; nothing of a request, which is not shown and may have 32 MiB.
pub(crate) async fn payload(
    conn: &mut PgConnection,
    app: AppId,
    id: DeadLetterId,
) -> sqlx::Result<Option<Vec<u8>>> {
    sqlx::query_scalar(
        "select case when kind = 'http' then ''::bytea else payload end
         from dead_letters
         where app_id = $1 and id = $2",
    )
    .bind(app)
    .bind(id)
    .fetch_optional(conn)
    .await
}

/// Unresolved dead letters of an app that a filter means, the oldest after `after` first, locked. How long their
/// payloads are is known without reading them.
pub(crate) async fn lock_unresolved(
    conn: &mut PgConnection,
    app: AppId,
    filter: &Filter,
    after: Option<DeadLetterId>,
    limit: i64,
) -> sqlx::Result<Vec<Unresolved>> {
    sqlx::query_as(filtered!(
        "select id, octet_length(payload) as payload_bytes
         from dead_letters",
        "and (resolution is null or resolution = 'handler_failed')
           and ($11::uuid is null or id > $11)
         order by id
         limit $12
         for update"
    ))
    .bind(app)
    .bind(filter.id)
    .bind(filter.is_unresolved)
    .bind(&filter.kind)
    .bind(filter.script)
    .bind(filter.trigger)
    .bind(&filter.reason)
    .bind(filter.failed_before)
    .bind(filter.failed_after)
    .bind(&filter.mentions)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// These dead letters of an app with their payloads, the oldest first.
pub(crate) async fn read(
    conn: &mut PgConnection,
    app: AppId,
    ids: &[DeadLetterId],
) -> sqlx::Result<Vec<DeadLetter>> {
    sqlx::query_as(concat!(
        "select ",
        letter!(),
        " from dead_letters
         where app_id = $1 and id = any($2)
         order by id"
    ))
    .bind(app)
    .bind(ids.iter().map(|id| id.as_uuid()).collect::<Vec<_>>())
    .fetch_all(conn)
    .await
}

/// How a dead letter is no longer open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolution {
    Ignored,
    HandledByScript,
}

impl Resolution {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ignored => "ignored",
            Self::HandledByScript => "handled_by_script",
        }
    }
}

/// Resolves dead letters that are open or whose handler failed; answers how many.
pub(crate) async fn resolve(
    conn: &mut PgConnection,
    app: AppId,
    ids: &[DeadLetterId],
    resolution: Resolution,
    note: Option<&str>,
) -> sqlx::Result<u64> {
    let ids: Vec<_> = ids.iter().map(|id| id.as_uuid()).collect();
    let done = sqlx::query(
        "update dead_letters
         set resolution = $3, resolved_at = clock_timestamp(), note = $4
         where app_id = $1 and id = any($2) and (resolution is null or resolution = 'handler_failed')",
    )
    .bind(app)
    .bind(ids)
    .bind(resolution.as_str())
    .bind(note)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Says as which deliveries dead letters are tried again.
pub(crate) async fn set_replayed(
    conn: &mut PgConnection,
    app: AppId,
    replays: &[(DeadLetterId, DeliveryId)],
) -> sqlx::Result<()> {
    sqlx::query(
        "update dead_letters d
         set resolution = 'replayed', resolved_at = clock_timestamp(), note = null, replayed_as = r.delivery
         from unnest($2::uuid[], $3::uuid[]) as r (id, delivery)
         where d.app_id = $1 and d.id = r.id",
    )
    .bind(app)
    .bind(replays.iter().map(|(id, _)| id.as_uuid()).collect::<Vec<_>>())
    .bind(replays.iter().map(|(_, delivery)| delivery.as_uuid()).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// How many dead letters nobody has looked after, and since when the oldest of them is there.
pub(crate) async fn unresolved(conn: &mut PgConnection) -> sqlx::Result<(i64, Option<DateTime<Utc>>)> {
    sqlx::query_as("select count(*), min(failed_at) from dead_letters where resolution is null")
        .fetch_one(conn)
        .await
}
