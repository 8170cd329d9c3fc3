use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use shared::invocation::{ExecutionStatus, Refusal, WorkResult};

use crate::harness::{Reply, TestApi};
use crate::outbox::eventually;
use crate::pool::{fail, respond};

async fn test_run(api: &TestApi, body: Value) -> Reply {
    api.post("/apps/default/scripts/hello/invoke", body).await
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_test_run_shows_response_and_execution() {
    let api = TestApi::start().await;
    let reply = test_run(&api, json!({})).await;
    let answer = reply.is(200);
    assert_eq!((&answer["status"], &answer["body"]), (&200.into(), &"hello".into()));
    assert_eq!(answer["headers"], json!({ "content-type": "text/plain" }));
    let execution = &answer["execution"];
    assert_eq!((&execution["script"], &execution["version"]), (&"hello".into(), &1.into()));
    assert_eq!((&execution["status"], &execution["duration_ms"]), (&"ok".into(), &1.5.into()));
    assert_eq!((&execution["logs"], &execution["error"]), (&json!([]), &Value::Null));

    api.pool.will_answer(respond(201, "application/json; charset=utf-8", b"{\"a\": [1]}"));
    assert_eq!(test_run(&api, json!({})).await.is(200)["body"], json!({ "a": [1] }));
    api.pool.will_answer(respond(200, "application/json", b"not json"));
    assert_eq!(test_run(&api, json!({})).await.is(200)["body"], "not json");
    api.pool.will_answer(respond(200, "image/png", b"\xff\x00"));
    assert_eq!(test_run(&api, json!({})).await.is(200)["body"], json!({ "base64": "/wA=" }));
}

#[tokio::test]
async fn the_made_up_request_reaches_the_script() {
    let api = TestApi::start().await;
    let body = json!({
        "path": "/hello/Ada%20L?a=1", "query": { "b": "2 3" },
        "headers": { "X-Test": "yes" }, "body": { "n": 1.50 }
    });
    test_run(&api, body).await.is(200);
    let seen = api.pool.last_request();
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/hello/Ada%20L"));
    assert_eq!(seen.params, pairs(&[("name", "Ada L")]));
    assert_eq!(seen.query, pairs(&[("a", "1"), ("b", "2 3")]));
    assert_eq!(seen.headers, pairs(&[("x-test", "yes"), ("content-type", "application/json")]));
    assert_eq!(seen.body, "{\"n\":1.5}");

    test_run(&api, json!({ "method": "put", "query": "?q=x", "body": "{raw" })).await.is(200);
    let seen = api.pool.last_request();
    assert_eq!((seen.method.as_str(), seen.body.as_str(), seen.path.as_str()), ("PUT", "{raw", "/"));
    assert_eq!((seen.query, seen.headers), (pairs(&[("q", "x")]), vec![]));

    for bad in [
        json!({ "path": "x" }),
        json!({ "method": "G T" }),
        json!({ "headers": { "a b": "c" } }),
        json!({ "headers": { "a": "c\n" } }),
        json!({ "query": 7 }),
    ] {
        test_run(&api, bad).await.is_problem("invalid_input");
    }
    api.post("/apps/default/scripts/nobody/invoke", json!({})).await.is_problem("not_found");
}

#[tokio::test]
async fn a_failed_test_run_shows_the_problem_and_where_it_happened() {
    let api = TestApi::start().await;
    api.pool.will_answer(fail(ExecutionStatus::ScriptError, "boom", 3, 7));
    let reply = test_run(&api, json!({})).await;
    let answer = reply.is(200);
    assert_eq!((&answer["status"], &answer["body"]["code"]), (&500.into(), &"script_error".into()));
    assert_eq!((&answer["body"]["line"], &answer["body"]["request_id"]), (&3.into(), &"request-1".into()));
    let error = json!({ "message": "boom", "script": "hello", "line": 3, "column": 7 });
    assert_eq!((&answer["execution"]["error"], &answer["execution"]["http_status"]), (&error, &500.into()));

    let cases = [
        (ExecutionStatus::FuelExhausted, 507),
        (ExecutionStatus::MemoryExceeded, 507),
        (ExecutionStatus::Timeout, 504),
        (ExecutionStatus::WorkerLost, 502),
        (ExecutionStatus::InvalidResponse, 502),
    ];
    for (status, http_status) in cases {
        api.pool.will_answer(fail(status, "x", 0, 0));
        let reply = test_run(&api, json!({})).await;
        assert_eq!(
            (&reply.is(200)["status"], &reply.json["body"]["code"]),
            (&http_status.into(), &status.as_str().into())
        );
    }

    for (refusal, code) in [(Refusal::Overloaded, "overloaded"), (Refusal::BundleUnavailable, "unavailable")]
    {
        api.pool.will_answer(WorkResult::Refused(refusal));
        let refused = test_run(&api, json!({})).await;
        refused.is_problem(code);
        assert_eq!(refused.headers["retry-after"], "1");
    }
}

async fn execute(api: &TestApi, id: &str, body: impl Into<Body>) -> Reply {
    let request = Request::put(format!("/api/v1/execute/{id}?q=1"))
        .header("authorization", format!("Bearer {}", api.token))
        .header("cookie", "secret=1")
        .header("x-mine", "2")
        .body(body.into())
        .unwrap();
    api.send(request).await
}

#[tokio::test]
async fn execute_runs_the_script_with_the_callers_request_but_not_their_credential() {
    let api = TestApi::start().await;
    let shown = api.get("/apps/default/scripts/hello").await;
    let id = shown.is(200)["id"].as_str().unwrap();
    api.pool.will_answer(respond(418, "text/html", b"<b>hi</b>"));
    let reply = execute(&api, id, "body").await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (418, "<b>hi</b>"));
    assert_eq!(reply.headers["content-security-policy"], "sandbox");
    let seen = api.pool.last_request();
    assert_eq!((seen.method.as_str(), seen.body.as_str()), ("PUT", "body"));
    assert_eq!((seen.query, seen.headers), (pairs(&[("q", "1")]), pairs(&[("x-mine", "2")])));

    api.pool.will_answer(fail(ExecutionStatus::Timeout, "took too long", 0, 0));
    execute(&api, id, "").await.is_problem("timeout");
    execute(&api, id, vec![0; (1 << 20) + 1]).await.is_problem("body_too_large");
    execute(&api, "7", "").await.is_problem("not_found");
    execute(&api, &uuid::Uuid::now_v7().to_string(), "").await.is_problem("not_found");
    let stranger = Request::get(format!("/api/v1/execute/{id}")).body(Body::empty()).unwrap();
    api.send(stranger).await.is_problem("unauthenticated");
}

async fn dry_run(api: &TestApi, app: &str) -> Reply {
    api.post(&format!("/apps/{app}/scripts/hello/invoke?dry_run=true"), json!({})).await
}

#[tokio::test]
async fn attack_dry_runs_that_pause_lock_no_other_owner_out() {
    let api = TestApi::start().await;
    let bob = api.person("bob", "member").await;
    api.post("/apps", json!({ "slug": "blog" })).await.is(201);
    api.post("/apps/blog:assign", json!({ "user": "bob" })).await.is(200);
    bob.deploy("blog", "hello", "1").await.is(201);
    let held = api.pool.hold().await;
    let have_begun = async |count| {
        eventually("they have begun", || async { (api.pool.requests().len() == count).then_some(()) }).await;
    };
    let pausing = async { tokio::join!(dry_run(&api, "default"), dry_run(&api, "default")) };
    let beside = async {
        have_begun(2).await;
        let refused = dry_run(&api, "default").await;
        refused.is_problem("overloaded");
        assert_eq!(refused.headers["retry-after"], "1");
        let look = async {
            have_begun(3).await;
            drop(held);
        };
        tokio::join!(dry_run(&bob, "blog"), look).0
    };
    let ((first, second), other) = tokio::join!(pausing, beside);
    for reply in [first, second, other] {
        assert_eq!(reply.is(200)["dry_run"]["deeds"], json!([]));
    }
    dry_run(&api, "default").await.is(200);
}

#[tokio::test]
async fn a_dry_run_has_ten_seconds_whatever_its_script_has() {
    let api = TestApi::start().await;
    for (timeout_ms, tried_ms) in [(10_001, 10_000), (300_000, 10_000), (10_000, 10_000), (9_999, 9_999)] {
        let body = json!({ "source": "1", "limits": { "timeout_ms": timeout_ms } });
        let deployed = api.call("PUT", "/apps/default/scripts/hello", Some(body)).await;
        assert!(deployed.status.is_success(), "{deployed:?}");
        dry_run(&api, "default").await.is(200);
        assert_eq!(api.pool.last_request().timeout_ms, tried_ms);
        test_run(&api, json!({})).await.is(200);
        assert_eq!(api.pool.last_request().timeout_ms, timeout_ms, "for real it has all of them");

        api.pool.will_answer(fail(ExecutionStatus::Timeout, "it took too long", 0, 0));
        let reply = dry_run(&api, "default").await;
        let problem = &reply.is(200)["body"];
        assert_eq!(problem["code"], "timeout");
        let is_told = problem["detail"].as_str().unwrap().contains("a dry run has 10 s");
        assert_eq!(is_told, timeout_ms > tried_ms, "{problem}");
    }
}
