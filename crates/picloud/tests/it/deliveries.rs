//! Deliveries from end to end: the real platform accepts, runs, tries again, gives up, and survives.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{NO_LIMITS, Reply, TestApp, TestServer, eventually};

fn route(app: &TestApp<'_>, name: &str, source: &str, mode: &str) {
    app.deploy(name, source, &NO_LIMITS);
    let route = json!({ "path": format!("/{name}"), "script": name, "dispatch_mode": mode });
    app.admin("POST", "/routes", &route).is(201);
}

fn send(app: &TestApp<'_>, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    app.client().send("POST", &app.host, path, headers, body.as_bytes())
}

/// Attempts of a delivery, the first one first.
fn attempts(app: &TestApp<'_>, delivery: &str) -> Vec<Value> {
    let path = format!("/executions?limit=200&delivery={delivery}");
    let mut items = app.admin("GET", &path, &Value::Null).is(200).json()["items"].as_array().unwrap().clone();
    items.reverse();
    items
}

fn waiting(app: &TestApp<'_>) -> usize {
    app.admin("GET", "/outbox", &Value::Null).is(200).json()["items"].as_array().unwrap().len()
}

#[test]
fn an_async_route_answers_202_and_its_script_runs_with_the_request_that_came() {
    let server = TestServer::shared();
    let app = server.app();
    let source = r#"log::info(`${ctx.request.body.n} ${ctx.delivery.attempt} ${ctx.event}`); "done""#;
    route(&app, "later", source, "async");
    let reply = send(&app, "/later", &[("content-type", "application/json")], r#"{"n": 42}"#);
    let id = reply.is(202).json()["execution_id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/admin/apps/{}/executions/{id}", app.slug);
    let location = format!("http://localhost:{}{path}", server.port);
    assert_eq!(reply.header("location"), location);
    let record = eventually("it has run", || {
        let reply = app.admin("GET", &format!("/executions/{id}"), &Value::Null);
        (reply.status == 200).then(|| reply.json())
    });
    assert_eq!((&record["status"], &record["delivery_id"]), (&json!("ok"), &json!(id)));
    assert_eq!(record["logs"][0]["message"], "42 1 ", "{record}");
    eventually("it is done", || (waiting(&app) == 0).then_some(()));
}

#[test]
fn a_script_that_fails_runs_again_with_the_same_delivery_until_it_succeeds() {
    let server = TestServer::shared();
    let app = server.app();
    let source = r#"if ctx.delivery.attempt < 2 { throw "not yet" } log::info(ctx.delivery.id); 1"#;
    route(&app, "flaky", source, "async");
    let id = send(&app, "/flaky", &[], "").is(202).json()["execution_id"].as_str().unwrap().to_owned();
    let all = eventually("both attempts are recorded", || {
        let all = attempts(&app, &id);
        (all.len() == 2).then_some(all)
    });
    assert_eq!((&all[0]["status"], &all[0]["attempt"]), (&json!("script_error"), &json!(1)));
    assert_eq!((&all[1]["status"], &all[1]["attempt"]), (&json!("ok"), &json!(2)));
    assert_eq!(all[1]["root_id"], json!(id), "an attempt belongs to the chain of its delivery");
}

#[test]
fn a_script_that_says_so_is_not_tried_again_and_its_dead_letter_can_be_replayed_once_it_is_mended() {
    let server = TestServer::shared();
    let app = server.app();
    route(&app, "bad", r#"throw #{ retry: false, message: "no such customer" }"#, "async");
    send(&app, "/bad", &[], "x").is(202);
    let letter = eventually("it is given up", || {
        let list = app.admin("GET", "/dead-letters", &Value::Null).is(200).json();
        list["items"].as_array().unwrap().first().cloned()
    });
    assert_eq!((&letter["reason"], &letter["attempts"]), (&json!("fatal"), &json!(1)));
    app.deploy("bad", "log::info(ctx.delivery.replay_of); ctx.request.body_raw", &NO_LIMITS);
    let path = format!("/dead-letters/{}:replay", letter["id"].as_str().unwrap());
    let replayed = app.admin("POST", &path, &json!({})).is(202).json();
    let again = replayed["deliveries"][0].as_str().unwrap();
    let record = eventually("it has run", || {
        let reply = app.admin("GET", &format!("/executions/{again}"), &Value::Null);
        (reply.status == 200).then(|| reply.json())
    });
    assert_eq!(record["logs"][0]["message"], letter["delivery_id"]);
}

#[test]
fn a_durable_route_answers_what_its_script_answers_and_may_be_told_not_to_wait() {
    let server = TestServer::shared();
    let app = server.app();
    route(&app, "sure", "#{ statusCode: 201, body: ctx.request.body_raw + ctx.delivery.attempt }", "durable");
    let reply = send(&app, "/sure", &[], "hello ");
    assert_eq!((reply.status, String::from_utf8_lossy(&reply.body).as_ref()), (201, "hello 1"));
    let reply = send(&app, "/sure", &[("prefer", "respond-async")], "later ");
    assert_eq!(reply.is(202).header("preference-applied"), "respond-async");
    route(&app, "fails", r#"throw "boom""#, "durable");
    send(&app, "/fails", &[], "").is(500).is_problem("script_error");
    eventually("all is done", || (waiting(&app) == 0).then_some(()));
    let letters = app.admin("GET", "/dead-letters", &Value::Null).is(200).json();
    assert_eq!(letters["items"], json!([]), "who waited knows");
}

#[test]
fn the_same_request_with_the_same_key_runs_once() {
    let server = TestServer::shared();
    let app = server.app();
    route(&app, "once", "1", "async");
    let key = [("idempotency-key", "k1")];
    let first = send(&app, "/once", &key, "a").is(202).json();
    let again = send(&app, "/once", &key, "a");
    assert_eq!((again.is(202).json(), again.header("idempotency-replayed")), (first, "true"));
    send(&app, "/once", &key, "b").is(409).is_problem("delivery_key_reused");
}

#[test]
fn a_killed_worker_is_an_attempt_and_the_delivery_goes_on() {
    let server = TestServer::start();
    let app = server.app();
    let source = "if ctx.delivery.attempt == 1 { let n = 0; while n >= 0 { n += 1; } } 1";
    route(&app, "long", source, "async");
    let id = send(&app, "/long", &[], "").is(202).json()["execution_id"].as_str().unwrap().to_owned();
    let workers: BTreeSet<u32> = server.workers();
    eventually("its worker is busy", || {
        let list = server.admin("GET", "/system/workers", &Value::Null).is(200).json();
        list["executions_running"].as_u64().filter(|running| *running > 0)
    });
    for worker in workers {
        crate::harness::process::send(worker, Signal::SIGKILL);
    }
    let all = eventually("another attempt succeeded", || {
        let all = attempts(&app, &id);
        all.iter().any(|attempt| attempt["status"] == "ok").then_some(all)
    });
    assert_eq!(all[0]["status"], "worker_lost");
    assert_eq!(all.last().unwrap()["attempt"], 2);
}

#[test]
fn the_backlog_of_one_app_does_not_keep_another_waiting() {
    let server = TestServer::start();
    let (crowd, guest) = (server.app(), server.app());
    route(&crowd, "slow", "let n = 0; for i in 0..300000 { n += i; } n", "async");
    route(&guest, "quick", "1", "async");
    for _ in 0..300 {
        send(&crowd, "/slow", &[], "").is(202);
    }
    let began = Instant::now();
    let id = send(&guest, "/quick", &[], "").is(202).json()["execution_id"].as_str().unwrap().to_owned();
    eventually("the guest has run", || (!attempts(&guest, &id).is_empty()).then_some(()));
    let waited = began.elapsed();
    assert!(waiting(&crowd) > 0 || waited < Duration::from_secs(1), "waited {waited:?} behind all of it");
}
