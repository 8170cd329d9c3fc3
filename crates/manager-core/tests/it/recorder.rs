use std::time::Duration;

use serde_json::json;
use shared::id::ExecutionId;
use shared::invocation::{ExecutionRecord, ExecutionStatus};

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
