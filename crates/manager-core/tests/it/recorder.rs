use std::time::Duration;

use manager_core::Manager;
use serde_json::json;
use shared::host_call::LogLevel;
use shared::id::{AppId, ExecutionId};
use shared::invocation::{ExecutionRecord, ExecutionStatus, LogEntry};
use shared::limits::LOG_BYTES_MAX;
use sqlx::Connection;

use crate::connections::are_stuck;
use crate::harness::{DAY, TestApi, config, record};

/// Reads until the condition holds. The deadline is only there to end a test that fails.
async fn eventually(api: &TestApi, sql: &str, expected: i64) {
    let reading = async {
        while api.database.scalar::<i64>(sql).await != expected {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect(sql);
}

#[tokio::test]
async fn failures_are_kept_when_successes_are_shed() {
    let api = TestApi::start().await;
    let app = api.app_id("default").await;
    let sink = api.manager.recorder();
    let (good, bad) = (record(app, ExecutionStatus::Ok), record(app, ExecutionStatus::Timeout));
    // Nothing is awaited in between, so the writer of this single-threaded runtime cannot run.
    for n in 0..20_000 {
        let mut one = if n % 10 == 0 { bad.clone() } else { good.clone() };
        one.id = shared::id::ExecutionId::new();
        sink.record(one);
    }
    assert_eq!(api.manager.recorder_counters().shed, 18_000 - 4_096);
    api.manager.close().await;
    let counters = api.manager.recorder_counters();
    assert_eq!((counters.written, counters.lost), (2_000 + 4_096, 0));
    let failed = "select count(*) from executions where status = 'timeout'";
    assert_eq!(api.database.scalar::<i64>(failed).await, 2_000);
}

#[tokio::test]
async fn a_record_is_written_soon_without_being_asked_for() {
    let api = TestApi::start().await;
    let app = api.app_id("default").await;
    api.manager.recorder().record(record(app, ExecutionStatus::Ok));
    eventually(&api, "select count(*) from executions", 1).await;
}

#[tokio::test]
async fn records_of_an_app_that_is_gone_do_not_hold_up_others() {
    let api = TestApi::start().await;
    let app = api.app_id("default").await;
    let sink = api.manager.recorder();
    sink.record(record(shared::id::AppId::new(), ExecutionStatus::Timeout));
    sink.record(record(app, ExecutionStatus::Timeout));
    eventually(&api, "select count(*) from executions", 1).await;
}

#[tokio::test]
async fn a_record_that_the_database_refuses_does_not_take_others_with_it() {
    let api = TestApi::start().await;
    let app = api.app_id("default").await;
    let sink = api.manager.recorder();
    let mut impossible = record(app, ExecutionStatus::Timeout);
    impossible.http_status = Some(42);
    sink.record(impossible);
    sink.record(record(app, ExecutionStatus::Timeout));
    eventually(&api, "select count(*) from executions", 1).await;
    api.manager.close().await;
    let counters = api.manager.recorder_counters();
    assert_eq!((counters.written, counters.lost), (1, 1));
}

#[tokio::test]
async fn failures_outlast_a_database_that_is_away() {
    let api = TestApi::start().await;
    let app = api.app_id("default").await;
    // Writes fail as they do on a server that has become a replica.
    api.database.set_read_only(true).await;
    api.manager.recorder().record(record(app, ExecutionStatus::Timeout));
    let tries = "select count(*) from pg_stat_activity
                 where datname = current_database() and query like 'with free as (%insert into executions%'";
    eventually(&api, tries, 1).await;
    assert_eq!(api.manager.recorder_counters().written, 0);
    api.database.set_read_only(false).await;
    eventually(&api, "select count(*) from executions", 1).await;
    assert_eq!(api.manager.recorder_counters().lost, 0);
}

#[tokio::test]
async fn records_that_are_too_old_or_too_many_are_removed_and_no_others() {
    let mut config = config();
    config.retention.every = Duration::from_millis(5);
    config.retention.records_per_app = 3;
    let api = TestApi::start_with(config).await;
    let app = api.app_id("default").await;
    let quiet = api.post("/apps", json!({ "slug": "quiet" })).await;
    let quiet = quiet.is(201)["id"].as_str().unwrap().parse().unwrap();
    let ago = |app, days: u64| {
        let then = std::time::SystemTime::now() - DAY * u32::try_from(days).unwrap();
        let seconds = then.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let id = uuid::Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, 0));
        ExecutionRecord { id: ExecutionId::from_uuid(id), ..record(app, ExecutionStatus::Timeout) }
    };
    let sink = api.manager.recorder();
    let kept = [ago(app, 2), ago(app, 1), ago(app, 0), ago(quiet, 29)].map(|record| record.id.to_string());
    for (record, id) in [ago(app, 2), ago(app, 1), ago(app, 0), ago(quiet, 29)].into_iter().zip(&kept) {
        sink.record(ExecutionRecord { id: id.parse().unwrap(), ..record });
    }
    for record in [ago(app, 3), ago(app, 40), ago(quiet, 31), ago(quiet, 400)] {
        sink.record(record);
    }
    // Both halves: everything was written, and only the wanted rest is there.
    let written = async {
        while api.manager.recorder_counters().written < 8 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), written).await.unwrap();
    eventually(&api, "select count(*) from executions", 4).await;
    let list = format!("select count(*) from executions where id in ('{}')", kept.join("','"));
    assert_eq!(api.database.scalar::<i64>(&list).await, 4);
}

/// Records of an hour ago, each with 16 MiB of logs, and with its number as its version.
async fn insert_long_logs(api: &TestApi, app: AppId, numbers: &str) {
    api.database
        .execute(&format!(
            "insert into executions (app_id, id, script_id, script_name, version, bundle_hash, request_id,
                                     invocation_type, status, started_at, duration_us, queued_us, fuel,
                                     peak_memory_bytes, host_calls, logs)
             select '{app}',
                    (lpad(to_hex((extract(epoch from now()) * 1000)::bigint - 3600000), 12, '0')
                        || '70008000' || lpad(n::text, 12, '0'))::uuid,
                    gen_random_uuid(), 'hello', n, decode(repeat('07', 32), 'hex'), 'earlier', 'http', 'ok', now(),
                    1, 1, 1, 1, 1, json_build_array(repeat('x', 16 << 20))
             from generate_series({numbers}) n"
        ))
        .await;
}

/// 150 records from before all of these, each with 2,000 bytes of logs.
async fn insert_oldest_logs(api: &TestApi, app: AppId) {
    api.database
        .execute(&format!(
            "insert into executions (app_id, id, script_id, script_name, version, bundle_hash, request_id,
                                     invocation_type, status, started_at, duration_us, queued_us, fuel,
                                     peak_memory_bytes, host_calls, logs)
             select app_id, (left(id::text, 19) || '7000-' || lpad(n::text, 12, '0'))::uuid,
                    script_id, script_name, version, bundle_hash, 'oldest', invocation_type, status, started_at,
                    1, 1, 1, 1, 1, json_build_array(repeat('x', 2000))
             from executions, generate_series(1, 150) n
             where app_id = '{app}' and request_id = 'earlier' and version = 1"
        ))
        .await;
}

/// As many bytes as bring about that the app is looked at.
fn record_long_logs(api: &TestApi, app: AppId) {
    let message = "x".repeat(LOG_BYTES_MAX as usize);
    for _ in 0..65 {
        let entry = LogEntry { level: LogLevel::Info, message: message.clone(), data: String::new() };
        let logs = [entry].into();
        api.manager.recorder().record(ExecutionRecord { logs, ..record(app, ExecutionStatus::Timeout) });
    }
}

#[tokio::test]
async fn attack_an_app_that_logs_without_end_keeps_its_newest_logs_and_every_record() {
    const REMOVED: &str = "select count(*) from executions where pg_column_size(logs) < 1000";
    const LAST_REMOVED: &str = "select max(version) from executions where pg_column_size(logs) < 1000";
    let mut api = TestApi::start().await;
    let app = api.app_id("default").await;
    let quiet = api.post("/apps", json!({ "slug": "quiet" })).await;
    let quiet = quiet.is(201)["id"].as_str().unwrap().parse().unwrap();
    // Packed, what is said again and again would be nothing.
    api.database.execute("alter table executions alter column logs set storage external").await;
    insert_long_logs(&api, quiet, "1, 1").await;
    insert_long_logs(&api, app, "1, 19").await;
    let mut other = api.database.connect().await;
    let lock = "begin; lock table executions in share update exclusive mode";
    let vacuuming = other.begin_with(lock).await.unwrap();
    // Beside these there is room for 14 of the others.
    record_long_logs(&api, app);
    eventually(&api, REMOVED, 5).await;
    assert_eq!(api.database.scalar::<i32>(LAST_REMOVED).await, 5, "the oldest");
    // A vacuum that takes long, here because somebody else has begun one, keeps no logs.
    are_stuck(&api, 1).await;
    record_long_logs(&api, app);
    eventually(&api, REMOVED, 6).await;
    // Else they would have taken their place until the database looks by itself.
    vacuuming.rollback().await.unwrap();
    let vacuumed = "select vacuum_count from pg_stat_user_tables where relname = 'executions'";
    eventually(&api, vacuumed, 1).await;
    let oldest = format!("select min(id::text) from executions where app_id = '{app}'");
    let oldest: String = api.database.scalar(&oldest).await;
    let oldest = api.get(&format!("/apps/default/executions/{oldest}")).await;
    let line = oldest.is(200)["logs"][0]["message"].as_str().unwrap();
    assert!(line.contains("256 MiB"), "{line}");
    eventually(&api, "select count(*) from executions", 1 + 19 + 130).await;

    // What an earlier process left is looked at as well, and all of it, also when as many of the oldest as are looked at
    // at a time are removed meanwhile.
    api.manager.close().await;
    insert_long_logs(&api, app, "20, 21").await;
    insert_oldest_logs(&api, app).await;
    let mut removing = other.begin().await.unwrap();
    let oldest = "delete from executions
                  where id in (select id from executions where request_id = 'oldest' order by id limit 100)";
    sqlx::query(oldest).execute(&mut *removing).await.unwrap();
    let mut config = config();
    config.retention.every = Duration::from_millis(5);
    api.manager = Manager::open(api.database.options(), config).await.unwrap();
    are_stuck(&api, 1).await;
    removing.commit().await.unwrap();
    eventually(&api, REMOVED, 50 + 8).await;
    assert_eq!(api.database.scalar::<i32>(LAST_REMOVED).await, 8);
    assert_eq!(api.database.scalar::<i64>("select count(*) from executions").await, 50 + 1 + 21 + 130);
}
