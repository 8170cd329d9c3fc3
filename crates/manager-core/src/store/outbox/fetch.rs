//! Which rows are to be dispatched next.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use shared::cause::Cause;
use shared::id::AppId;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::super::columns;
use crate::events::{Fetch, Page, Payload, RetryPolicy, Row, Task};

/// The query of due rows. First the apps that have any, by jumping from one to the next in the
/// index; then some rows of each, so that no app hides behind another's backlog. The clock is
/// `statement_timestamp()`, because the index cannot be searched by one that runs on.
///
/// What was deleted stays in the index while somebody holds a snapshot. So the jumps go backwards, to the newest
/// of each app, behind which that is; and they look no further back than the rest, so that what is older of an
/// app that has nothing left is passed over in the index, without a look at the table.
///
/// Of the rows of a page only as many payloads are read as the page may have bytes: to know a payload's length the
/// database does not read it.
pub(crate) const FETCH: &str = "
    with recursive due as materialized (
        select s.shard, (
                   select o.app_id
                   from outbox o
                   where o.shard = s.shard and o.due_at > $2
                   order by o.app_id desc, o.due_at desc, o.id desc
                   limit 1
               ) as app_id
        from unnest($1::smallint[]) as s (shard)
        union all
        select d.shard, (
                   select o.app_id
                   from outbox o
                   where o.shard = d.shard and o.app_id < d.app_id and o.due_at > $2
                   order by o.app_id desc, o.due_at desc, o.id desc
                   limit 1
               )
        from due d
        where d.app_id is not null
    ), found as not materialized (
        select o.id, o.app_id, o.delivery_id, o.kind, o.trigger_id, o.script_id, o.version, o.due_at,
               o.enqueued_at, o.attempts, o.strikes, o.max_attempts, o.base_ms, o.cap_ms, o.root_id,
               o.parent_id, o.depth, o.order_key, o.reply_to, o.replay_of, o.handles, o.payload,
               octet_length(o.payload) as bytes, o.place
        from due d
        cross join lateral (
            select r.id, r.app_id, r.delivery_id, r.kind, r.trigger_id, r.script_id, r.version, r.due_at,
                   r.enqueued_at,
                   r.attempts, r.strikes, r.max_attempts, r.base_ms, r.cap_ms, r.root_id, r.parent_id,
                   r.depth, r.order_key, r.reply_to, r.replay_of, r.handles, r.payload,
                   row_number() over (order by r.due_at, r.id) as place
            from outbox r
            where r.shard = d.shard
              and r.app_id = d.app_id
              and r.due_at > $2
              and r.due_at <= statement_timestamp()
              and r.id not in (select unnest($3::bigint[]))
              and (r.order_key is null or not exists (
                  select 1
                  from outbox earlier
                  where earlier.script_id = r.script_id
                    and earlier.order_key = r.order_key
                    and earlier.id < r.id
              ))
            order by r.due_at, r.id
            limit $4
        ) o
        where d.app_id is not null
          and d.app_id not in (select unnest($6::uuid[]))
        order by o.place, o.due_at, o.id
        limit $5
    )
    select f.id, f.app_id, f.delivery_id, f.kind, f.trigger_id, f.script_id, f.version, f.due_at,
           f.enqueued_at, f.attempts, f.strikes, f.max_attempts, f.base_ms, f.cap_ms, f.root_id,
           f.parent_id, f.depth, f.order_key is not null as is_ordered, f.reply_to, f.replay_of, f.handles,
           f.bytes, f.place,
           case when f.bytes <= $7::bigint
                then case when sum(f.bytes) filter (where f.bytes <= $7::bigint) over so_far <= $7::bigint
                          then f.payload end
                when count(*) filter (where f.bytes > $7::bigint) over so_far <= $8::bigint
                then f.payload end as payload
    from found f
    window so_far as (order by f.place, f.due_at, f.id rows unbounded preceding)
    order by f.place, f.due_at, f.id";

/// When the next row is due that is not due now, by the same jumps.
pub(crate) const NEXT_DUE: &str = "
    with recursive apps as materialized (
        select s.shard, (
                   select o.app_id
                   from outbox o
                   where o.shard = s.shard and o.due_at > $2
                   order by o.app_id desc, o.due_at desc, o.id desc
                   limit 1
               ) as app_id
        from unnest($1::smallint[]) as s (shard)
        union all
        select a.shard, (
                   select o.app_id
                   from outbox o
                   where o.shard = a.shard and o.app_id < a.app_id and o.due_at > $2
                   order by o.app_id desc, o.due_at desc, o.id desc
                   limit 1
               )
        from apps a
        where a.app_id is not null
    )
    select min(extract(epoch from n.due_at - statement_timestamp())::float8) as seconds,
           (extract(epoch from statement_timestamp()) * 1000000)::bigint as at_us
    from apps a
    cross join lateral (
        select o.due_at
        from outbox o
        where o.shard = a.shard
          and o.app_id = a.app_id
          and o.due_at > statement_timestamp()
          and o.due_at < 'infinity'
        order by o.due_at
        limit 1
    ) n
    where a.app_id is not null";

/// Rows that are due, and when others will be.
pub(crate) async fn fetch(conn: &mut PgConnection, wanted: &Fetch) -> sqlx::Result<Page> {
    let shards: Vec<i16> = wanted.shards.iter().copied().map(i16::from).collect();
    // The time is asked for first: what is due between the two statements is found by the fetch and
    // told of by the time.
    let low_water = wanted.low_water_us.and_then(DateTime::from_timestamp_micros).unwrap_or_default();
    let next = sqlx::query(NEXT_DUE).bind(&shards).bind(low_water).fetch_one(&mut *conn).await?;
    let (seconds, at_us): (Option<f64>, i64) = (next.try_get("seconds")?, next.try_get("at_us")?);
    let per_app = i64::try_from(wanted.rows_per_app).unwrap_or(i64::MAX);
    let bound = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    // One at a time, so that no payload is here twice when another is.
    let mut found = sqlx::query(FETCH)
        .bind(&shards)
        .bind(low_water)
        .bind(&wanted.known)
        .bind(per_app)
        .bind(bound(wanted.rows_max))
        .bind(wanted.left_out.iter().map(|app| app.as_uuid()).collect::<Vec<_>>())
        .bind(bound(wanted.bytes_max))
        .bind(bound(wanted.large_max))
        .fetch(conn);
    let (mut rows, mut left, mut apps, mut is_full) = (Vec::new(), Vec::new(), HashSet::new(), false);
    while let Some(row) = found.try_next().await? {
        is_full |= row.try_get::<i64, _>("place")? >= per_app;
        let app: AppId = row.try_get("app_id")?;
        apps.insert(app);
        match row.try_get::<Option<Vec<u8>>, _>("payload")? {
            Some(payload) => rows.push(read(&row, Payload::from_stored(payload))?),
            None => {
                let bytes = usize::try_from(columns::count(&row, "bytes")?).unwrap_or(usize::MAX);
                let due: DateTime<Utc> = row.try_get("due_at")?;
                left.push((app, due.timestamp_micros(), bytes));
            }
        }
    }
    is_full |= !left.is_empty() || rows.len() >= wanted.rows_max;
    let next_due = seconds.map(|seconds| Duration::from_secs_f64(seconds.max(0.0)));
    Ok(Page { rows, left, is_full, apps: apps.len(), next_due, at_us })
}

fn read(row: &PgRow, payload: Payload) -> sqlx::Result<Row> {
    let count = |column| columns::count(row, column);
    let small = |column| -> sqlx::Result<u16> {
        let number: i16 = row.try_get(column)?;
        u16::try_from(number).map_err(|source| columns::malformed(column, source))
    };
    // Taken apart here: that costs PostgreSQL as much as all the rest of the row.
    let micros = |column| row.try_get(column).map(|at: DateTime<Utc>| at.timestamp_micros());
    let version: Option<i32> = row.try_get("version")?;
    let task = Task {
        delivery: row.try_get("delivery_id")?,
        kind: columns::parsed(row, "kind")?,
        trigger: row.try_get("trigger_id")?,
        script: row.try_get("script_id")?,
        version: version.and_then(|version| u32::try_from(version).ok()),
        cause: Cause {
            root: row.try_get("root_id")?,
            parent: row.try_get("parent_id")?,
            depth: count("depth")?,
        },
        reply_to: row.try_get("reply_to")?,
        replay_of: row.try_get("replay_of")?,
        handles: row.try_get("handles")?,
        payload,
    };
    Ok(Row {
        id: row.try_get("id")?,
        app: row.try_get::<AppId, _>("app_id")?,
        due_us: micros("due_at")?,
        enqueued_us: micros("enqueued_at")?,
        attempts: small("attempts")?,
        strikes: small("strikes")?,
        retry: RetryPolicy {
            max_attempts: small("max_attempts")?,
            base_ms: count("base_ms")?,
            cap_ms: count("cap_ms")?,
        },
        is_suspect: false,
        is_ordered: row.try_get("is_ordered")?,
        role: task.role(),
        task: Arc::new(task),
    })
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use sqlx::postgres::PgConnectOptions;
    use sqlx::{AssertSqlSafe, Connection};

    use super::*;

    /// A database of its own with one app's backlog of due and future rows, and a few rows of others.
    async fn with_backlog() -> (PgConnection, PgConnection, String) {
        let url = std::env::var("PICLOUD_TEST_DATABASE_URL").expect("run by make test");
        let options = PgConnectOptions::from_str(&url).unwrap();
        let mut server = PgConnection::connect_with(&options).await.unwrap();
        let name = format!("plans_{}", uuid::Uuid::now_v7().simple());
        sqlx::raw_sql(AssertSqlSafe(format!("create database {name}"))).execute(&mut server).await.unwrap();
        let mut conn = PgConnection::connect_with(&options.database(&name)).await.unwrap();
        sqlx::migrate!("../../migrations").run(&mut conn).await.unwrap();
        // Plans are made by what `analyze` saw here, and not by what autovacuum sees in the middle of a test.
        sqlx::raw_sql(
            "alter table outbox set (autovacuum_enabled = off);
             insert into outbox (shard, app_id, delivery_id, kind, script_id, due_at, max_attempts, base_ms,
                                 cap_ms, root_id, depth, payload)
             select 3, '00000000-0000-0000-0000-000000000003', gen_random_uuid(), 'queue',
                    gen_random_uuid(), now() + (i % 2) * interval '1 hour', 5, 1, 1, gen_random_uuid(), 1, 'x'
             from generate_series(1, 20000) i;
             insert into outbox (shard, app_id, delivery_id, kind, script_id, due_at, max_attempts, base_ms,
                                 cap_ms, root_id, depth, payload)
             select 3, gen_random_uuid(), gen_random_uuid(), 'queue', gen_random_uuid(), now(), 5, 1, 1,
                    gen_random_uuid(), 1, 'x'
             from generate_series(1, 10) i;
             analyze outbox",
        )
        .execute(&mut conn)
        .await
        .unwrap();
        (server, conn, name)
    }

    fn everything() -> Fetch {
        Fetch {
            fetch: 1,
            is_first: true,
            shards: (0..16).collect(),
            known: Vec::new(),
            left_out: Vec::new(),
            low_water_us: None,
            rows_max: 4_096,
            rows_per_app: 16,
            bytes_max: 32 << 20,
            large_max: 1,
        }
    }

    async fn plan(conn: &mut PgConnection, query: &str, arguments: &str) -> String {
        let text = format!("prepare q as {query}; explain (costs off) execute q({arguments})");
        let rows = sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&mut *conn).await.unwrap();
        sqlx::raw_sql("deallocate q").execute(conn).await.unwrap();
        rows.iter().map(|row| row.get::<String, _>(0) + "\n").collect()
    }

    #[tokio::test]
    async fn no_backlog_is_walked_to_find_what_is_due() {
        let (mut server, mut conn, name) = with_backlog().await;
        let arguments = "array[3]::smallint[], 'epoch', '{1,2}', 16, 4096, '{}', 8388608, 1";
        let fetch = plan(&mut conn, FETCH, arguments).await;
        let due = "Index Cond: ((shard = d.shard) AND (app_id = d.app_id) AND (due_at > ";
        assert!(fetch.contains(due) && fetch.contains("AND (due_at <= statement_timestamp()))"), "{fetch}");
        assert!(fetch.contains("using outbox_order_idx on outbox earlier"), "{fetch}");
        let next = plan(&mut conn, NEXT_DUE, "array[3]::smallint[], 'epoch'").await;
        for text in [&fetch, &next] {
            assert!(text.contains("Index Only Scan Backward using outbox_due_idx"), "{text}");
            assert!(!text.contains("Seq Scan"), "{text}");
        }
        let wanted = Fetch { known: vec![2], ..everything() };
        let page = super::fetch(&mut conn, &wanted).await.unwrap();
        assert_eq!(
            (page.rows.len(), page.apps, page.is_full),
            (26, 11, true),
            "ten apps are not hidden by one"
        );
        assert!(page.next_due.is_some_and(|delay| delay > Duration::from_secs(3_000)));
        assert!(page.rows.iter().all(|row| row.id != 2));
        let backlog = AppId::from_uuid(uuid::Uuid::from_u128(3));
        let wanted = Fetch { left_out: vec![backlog], ..everything() };
        let page = super::fetch(&mut conn, &wanted).await.unwrap();
        assert!(page.rows.iter().all(|row| row.app != backlog));
        assert_eq!((page.rows.len(), page.is_full), (10, false), "it is left out, and nobody else");
        conn.close().await.unwrap();
        let drop = format!("drop database {name} with (force)");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut server).await.unwrap();
    }

    #[tokio::test]
    async fn attack_a_backlog_of_large_events_is_read_little_by_little() {
        let (mut server, mut conn, name) = with_backlog().await;
        let large = "delete from outbox;
                     insert into outbox (shard, app_id, delivery_id, kind, script_id, due_at, max_attempts, base_ms,
                                         cap_ms, root_id, depth, payload)
                     select 3, '00000000-0000-0000-0000-000000000003', gen_random_uuid(), 'http', gen_random_uuid(),
                            now() - i * interval '1 ms', 5, 1, 1, gen_random_uuid(), 1,
                            convert_to(repeat('x', 8 * 1024 * 1024), 'UTF8')
                     from generate_series(1, 64) i;
                     insert into outbox (shard, app_id, delivery_id, kind, script_id, due_at, max_attempts, base_ms,
                                         cap_ms, root_id, depth, payload)
                     select 3, gen_random_uuid(), gen_random_uuid(), 'http', gen_random_uuid(), now(), 5, 1, 1,
                            gen_random_uuid(), 1, 'x'";
        sqlx::raw_sql(large).execute(&mut conn).await.unwrap();
        let bytes = |page: &Page| -> usize { page.rows.iter().map(Row::bytes).sum() };

        let wanted = Fetch { rows_max: 256, rows_per_app: 256, ..everything() };
        let page = super::fetch(&mut conn, &wanted).await.unwrap();
        assert!((24 << 20..40 << 20).contains(&bytes(&page)), "{} bytes", bytes(&page));
        assert!(page.is_full && page.rows.len() + page.left.len() == 65);
        assert!(
            page.left.iter().all(|(_, due_us, bytes)| *due_us > 0 && *bytes == 8 << 20),
            "it says what is left"
        );

        // Of those that are more than there is room for at all there is one, and others are brought beside it.
        let wanted = Fetch { bytes_max: 1 << 20, ..wanted };
        let page = super::fetch(&mut conn, &wanted).await.unwrap();
        let mut lengths: Vec<_> = page.rows.iter().map(|row| row.task.payload.as_bytes().len()).collect();
        lengths.sort_unstable();
        assert_eq!((lengths.as_slice(), page.left.len()), ([1, 8 << 20].as_slice(), 63));
        let page = super::fetch(&mut conn, &Fetch { large_max: 0, ..wanted }).await.unwrap();
        assert_eq!((page.rows.len(), page.left.len(), page.is_full), (1, 64, true));

        conn.close().await.unwrap();
        let drop = format!("drop database {name} with (force)");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut server).await.unwrap();
    }

    /// Pages that the fetch of shard 3 looks at.
    async fn pages(conn: &mut PgConnection, low_water: &str) -> u32 {
        let text = format!(
            "prepare q as {FETCH};
             explain (analyze, buffers, costs off, timing off) execute q(array[3]::smallint[], {low_water}, '{{}}', 16, 4096,
                                                                               '{{}}', 8388608, 1)"
        );
        let rows = sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&mut *conn).await.unwrap();
        sqlx::raw_sql("deallocate q").execute(conn).await.unwrap();
        let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let buffers = lines.iter().find_map(|line| line.trim().strip_prefix("Buffers: shared "));
        // Those that were in memory, and those that were not.
        let looked_at = buffers.expect("it says how many").split(' ').filter_map(|count| {
            let count = count.strip_prefix("hit=").or_else(|| count.strip_prefix("read="))?;
            count.parse::<u32>().ok()
        });
        looked_at.sum()
    }

    #[tokio::test]
    async fn a_snapshot_that_somebody_holds_does_not_make_a_fetch_look_at_all_that_is_done() {
        let (mut server, mut conn, name) = with_backlog().await;
        let old = "update outbox set due_at = due_at - interval '3 hours'";
        sqlx::raw_sql(old).execute(&mut conn).await.unwrap();
        let url = std::env::var("PICLOUD_TEST_DATABASE_URL").expect("run by make test");
        let options = PgConnectOptions::from_str(&url).unwrap().database(&name);
        let mut dump = PgConnection::connect_with(&options).await.unwrap();
        let begin = "begin isolation level repeatable read; select count(*) from outbox";
        sqlx::raw_sql(begin).execute(&mut dump).await.unwrap();
        let done = "create temporary table one as select * from outbox limit 1;
                    delete from outbox;
                    insert into outbox (shard, app_id, delivery_id, kind, script_id, due_at, max_attempts, base_ms,
                                        cap_ms, root_id, depth, payload)
                    select 3, '00000000-0000-0000-0000-000000000003', gen_random_uuid(), kind, script_id, now(), 5, 1, 1,
                           root_id, 1, payload
                    from one, generate_series(1, 20);
                    vacuum analyze outbox;
                    set enable_seqscan = off";
        for statement in done.split(';') {
            sqlx::raw_sql(statement).execute(&mut conn).await.unwrap();
        }
        // It was told how few there are: what the plan is does not depend on when the server finds out by itself.
        // Of twenty rows it would read the whole table; of a day's, the index.
        let whole = pages(&mut conn, "'epoch'").await;
        let recent = pages(&mut conn, "now() - interval '10 seconds'").await;
        assert!(recent * 2 < whole, "{recent} pages, and {whole} without the mark");
        dump.close().await.unwrap();
        conn.close().await.unwrap();
        let drop = format!("drop database {name} with (force)");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut server).await.unwrap();
    }
}
