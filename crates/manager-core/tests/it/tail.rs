use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream};
use futures_util::StreamExt;
use http::Request;
use serde_json::json;
use shared::host_call::LogLevel;
use shared::id::AppId;
use shared::invocation::{ExecutionStatus, LogEntry};
use tower::ServiceExt;

use crate::catalogue::print_row;
use crate::harness::{TestApi, record};

async fn follow(api: &TestApi) -> BodyDataStream {
    let request = Request::get("/api/v1/admin/apps/default/logs:tail")
        .header("authorization", format!("Bearer {}", api.token))
        .body(Body::empty())
        .unwrap();
    let response = api.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    response.into_body().into_data_stream()
}

async fn next(stream: &mut BodyDataStream) -> Option<String> {
    let chunk = stream.next().await?.unwrap();
    Some(String::from_utf8(chunk.to_vec()).unwrap())
}

#[tokio::test]
async fn followers_see_lines_and_ends_of_their_app_until_the_end() {
    let api = TestApi::start().await;
    let mut stream = follow(&api).await;
    let app = api.app_id("default").await;
    let sink = api.manager.recorder();
    sink.record(record(AppId::new(), ExecutionStatus::Ok));
    let mut one = record(app, ExecutionStatus::Timeout);
    let data = "{\"n\":\n1}".to_owned();
    one.logs = Arc::new([LogEntry { level: LogLevel::Info, message: "two\nlines".into(), data }]);
    let id = one.id;
    sink.record(one);

    let line = next(&mut stream).await.unwrap();
    assert!(line.starts_with("event: log\ndata: {"), "{line}");
    assert!(line.contains(&id.to_string()) && line.contains(r#""message":"two\nlines""#), "{line}");
    let end = next(&mut stream).await.unwrap();
    assert!(end.starts_with("event: execution\ndata: {"), "{end}");
    assert!(end.contains(r#""status":"timeout""#), "{end}");

    api.manager.end_streams();
    assert_eq!(next(&mut stream).await, None, "a drain does not wait for followers");
    assert_eq!(next(&mut follow(&api).await).await, None);
}

#[tokio::test]
async fn attack_32_who_was_taken_out_of_the_app_or_logged_out_does_not_read_on() {
    let api = TestApi::start().await;
    let (bob, eve) = (api.person("bob", "member").await, api.person("eve", "member").await);
    for user in ["bob", "eve"] {
        api.post("/apps/default/members", json!({ "user": user, "role": "viewer" })).await.is(201);
    }
    let app = api.app_id("default").await;
    let (mut of_bob, mut of_eve) = (follow(&bob).await, follow(&eve).await);
    let sink = api.manager.recorder();
    sink.record(record(app, ExecutionStatus::Ok));
    assert!(next(&mut of_bob).await.is_some() && next(&mut of_eve).await.is_some());

    api.call("DELETE", "/apps/default/members/bob", None).await;
    eve.call("DELETE", "/auth/sessions", None).await;
    let since = Instant::now();
    for (name, mut stream) in [("taken out of the app", of_bob), ("logged out", of_eve)] {
        sink.record(record(app, ExecutionStatus::Ok));
        while next(&mut stream).await.is_some() {
            assert!(since.elapsed() < Duration::from_secs(20), "it is still read");
            sink.record(record(app, ExecutionStatus::Ok));
        }
        let seen = format!("cut off after {} ms", since.elapsed().as_millis());
        print_row("32", &format!("follows logs, {name}"), "cut off", &seen);
    }
}
