use std::sync::Arc;

use serde_json::{Value, json};
use shared::host_call::LogLevel;
use shared::invocation::{ExecutionStatus, LogEntry, ScriptFailure};

use crate::harness::{TestApi, record};

/// Records `count` executions, every third of them a timeout, and waits until they are written.
async fn with_executions(count: usize) -> TestApi {
    let api = TestApi::start().await;
    let app = api.app_id("default").await;
    let sink = api.manager.recorder();
    for n in 0..count {
        let status = if n % 3 == 0 { ExecutionStatus::Timeout } else { ExecutionStatus::Ok };
        sink.record(record(app, status));
    }
    reopened(api).await
}

/// Closing flushes the recorder; the manager that is opened then reads what was written.
async fn reopened(mut api: TestApi) -> TestApi {
    api.manager.close().await;
    let manager =
        manager_core::Manager::open(api.database.options(), crate::harness::config()).await.unwrap();
    api.router = manager.admin_router(api.pool.clone());
    api.manager = manager;
    api
}

#[tokio::test]
async fn executions_are_listed_newest_first_in_pages_that_skip_and_repeat_nothing() {
    let api = with_executions(10).await;
    let all = api.all_pages("/apps/default/executions", 50).await;
    let ids: Vec<_> = all.iter().map(|e| e["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 10);
    assert!(ids.is_sorted_by(|a, b| a > b), "{ids:?}");
    let paged = api.all_pages("/apps/default/executions", 3).await;
    assert_eq!(paged, all);
    assert!(all[0].get("logs").is_none(), "a list carries no logs");
}

#[tokio::test]
async fn lists_are_filtered_by_script_status_and_time() {
    let api = with_executions(6).await;
    let count = async |query: &str| {
        let reply = api.get(&format!("/apps/default/executions?{query}")).await;
        reply.is(200)["items"].as_array().unwrap().len()
    };
    assert_eq!(count("status=timeout").await, 2);
    assert_eq!(count("status=ok&limit=3").await, 3);
    assert_eq!(count("script=hello").await, 6);
    assert_eq!(count("script=other").await, 0);
    assert_eq!(count("since=2023-11-14T22:13:20Z").await, 6);
    assert_eq!(count("since=2023-11-14T22:13:21Z").await, 0);
    for query in ["status=great", "since=yesterday", "limit=201", "cursor=xyz", "script=%00"] {
        api.get(&format!("/apps/default/executions?{query}")).await.is_problem("invalid_input");
    }
}

#[tokio::test]
async fn one_execution_is_shown_with_its_error_and_logs() {
    let api = TestApi::start().await;
    let app = api.app_id("default").await;
    let mut one = record(app, ExecutionStatus::ScriptError);
    one.failure = Some(ScriptFailure {
        message: "boom \0".into(),
        script: "hello".into(),
        line: 3,
        column: 7,
        is_fatal: false,
    });
    let entry = |data: &str| LogEntry { level: LogLevel::Warn, message: "m\0".into(), data: data.into() };
    let data = ["{\"n\": 1.10, \"s\": \"\\u0000\"}", "1e400", "\"\\ud800\"", ""];
    one.logs = Arc::new(data.map(entry));
    let id = one.id;
    api.manager.recorder().record(one);
    let api = reopened(api).await;

    let reply = api.get(&format!("/apps/default/executions/{id}")).await;
    let shown = reply.is(200);
    let line = |data: Value| json!({ "level": "warn", "message": "m\0", "data": data });
    let last = json!({ "level": "warn", "message": "m\0" });
    // What a script logged stays readable, be it what it may.
    let lines =
        json!([line(json!({ "n": 1.1, "s": "\0" })), line("1e400".into()), line("\"\\ud800\"".into()), last]);
    assert_eq!(shown["logs"], lines);
    assert_eq!(shown["error"], json!({ "message": "boom \0", "script": "hello", "line": 3, "column": 7 }));
    assert_eq!((&shown["duration_ms"], &shown["queued_ms"]), (&8.5.into(), &0.009.into()));
    assert_eq!((&shown["fuel"], &shown["peak_memory_bytes"]), (&5.into(), &6.into()));
    assert_eq!((&shown["host_calls"], &shown["request_id"]), (&7.into(), &"request-1".into()));

    api.get(&format!("/apps/default/executions/{}", uuid::Uuid::now_v7())).await.is_problem("not_found");
    api.get("/apps/default/executions/7").await.is_problem("not_found");
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    api.get(&format!("/apps/other/executions/{id}")).await.is_problem("not_found");
    let others = api.get("/apps/other/executions").await;
    assert_eq!(others.is(200), &json!({ "items": [], "next_cursor": Value::Null }));
}
