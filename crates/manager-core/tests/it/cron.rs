//! Times of cron triggers come, whatever another app does.

use serde_json::json;
use shared::id::AppId;
use shared::invocation::ExecutionStatus;
use sqlx::{AssertSqlSafe, Connection};

use crate::harness::{TestApi, record};
use crate::outbox::eventually;

const SLOTS: usize = 8;
/// The script of the one app, and that of the other.
const SCRIPTS: [&str; 2] = ["hello", "tick"];

/// The app `default` and another, each with a script that runs every second once events are delivered; answers both, and
/// the trigger of the first.
async fn two_apps() -> (TestApi, [AppId; 2], String) {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    api.deploy("other", SCRIPTS[1], "1").await.is(201);
    let mut triggers = Vec::new();
    for (app, script) in ["default", "other"].into_iter().zip(SCRIPTS) {
        let cron = json!({ "kind": "cron", "script": script, "config": { "schedule": "* * * * * *" } });
        let made = api.post(&format!("/apps/{app}/triggers"), cron).await;
        triggers.push(made.is(201)["id"].as_str().unwrap().to_owned());
    }
    let apps = [api.app_id("default").await, api.app_id("other").await];
    (api, apps, triggers.remove(0))
}

fn runs(api: &TestApi, script: &str) -> usize {
    api.pool.requests().iter().filter(|seen| seen.script == script).count()
}

async fn run(api: &TestApi, script: &str, count: usize) {
    let what = format!("{script} has run {count} times");
    eventually(&what, || async { (runs(api, script) >= count).then_some(()) }).await;
}

#[tokio::test]
async fn attack_an_outbox_that_one_app_has_filled_loses_no_time_of_another() {
    let (api, [flood, _], trigger) = two_apps().await;
    let shard = flood.to_bytes()[15] % 16;
    api.database
        .execute(&format!(
            "insert into outbox (shard, app_id, delivery_id, kind, script_id, due_at, max_attempts, base_ms, cap_ms,
                                 root_id, depth, payload)
             select {shard}, '{flood}', gen_random_uuid(), 'function', gen_random_uuid(), 'infinity', 5, 1, 1,
                    gen_random_uuid(), 1, 'x'
             from generate_series(1, 100001)"
        ))
        .await;
    api.manager.start_events(api.pool.clone(), SLOTS);
    let by_hand = format!("/apps/default/triggers/{trigger}:run");
    eventually("the app that floods is refused", || async {
        (api.post(&by_hand, json!({})).await.json["code"] == "outbox_full").then_some(())
    })
    .await;
    let before = runs(&api, SCRIPTS[1]);
    run(&api, SCRIPTS[1], before + 3).await;
    api.manager.stop_events().await;
}

#[tokio::test]
async fn an_app_that_somebody_has_locked_keeps_no_other_waiting() {
    let (api, [locked, other], _) = two_apps().await;
    let mut holder = api.database.connect().await;
    let lock = format!(
        "begin;
         select from apps where id = '{locked}' for update;
         select from cron_marks where app_id = '{locked}' for update"
    );
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut holder).await.unwrap();
    api.manager.start_events(api.pool.clone(), SLOTS);
    let sink = api.manager.recorder();
    for status in [ExecutionStatus::Timeout, ExecutionStatus::Ok] {
        sink.record(record(locked, status));
        sink.record(record(other, status));
    }
    let count = async |what: &str, expected: i64| {
        let sql = format!("select count(*) from {what}");
        eventually(&format!("there are {expected} {what}"), || async {
            (api.database.scalar::<i64>(&sql).await == expected).then_some(())
        })
        .await;
    };
    run(&api, SCRIPTS[1], 2).await;
    count(&format!("executions where app_id = '{other}' and request_id = 'request-1'"), 2).await;
    count(&format!("app_usage where app_id = '{other}'"), 1).await;
    assert_eq!(runs(&api, SCRIPTS[0]), 0);

    // What waited comes when it can.
    sqlx::raw_sql("rollback").execute(&mut holder).await.unwrap();
    run(&api, SCRIPTS[0], 1).await;
    count(&format!("executions where app_id = '{locked}' and request_id = 'request-1'"), 2).await;
    assert_eq!(api.manager.recorder_counters().lost, 0);
    holder.close().await.unwrap();
    api.manager.stop_events().await;
}
