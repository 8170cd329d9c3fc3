//! Every kind of trigger, until the handler has run: real workers, real database.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{NO_LIMITS, TestApp, TestServer, eventually};

/// Logs what it was told, for the tests to read.
pub(crate) const HANDLER: &str = r#"log::info("event", #{ event: ctx.event, delivery: ctx.delivery });"#;

pub(crate) fn trigger(app: &TestApp<'_>, kind: &str, script: &str, config: Value) -> String {
    let body = json!({ "kind": kind, "script": script, "config": config });
    trigger_of(app, &body)
}

fn trigger_of(app: &TestApp<'_>, body: &Value) -> String {
    let made = app.admin("POST", "/triggers", body).is(201).json();
    made["id"].as_str().unwrap().to_owned()
}

/// The executions of a script that are recorded, the first first.
pub(crate) fn runs(app: &TestApp<'_>, script: &str) -> Vec<Value> {
    let list =
        app.admin("GET", &format!("/executions?script={script}&limit=200"), &Value::Null).is(200).json();
    let mut items = list["items"].as_array().unwrap().clone();
    items.reverse();
    items
}

/// What the handler was told each time, when it has run at least so often.
pub(crate) fn told(app: &TestApp<'_>, script: &str, times: usize) -> Vec<Value> {
    let runs = eventually(&format!("{script} ran {times} times"), || {
        let runs = runs(app, script);
        (runs.iter().filter(|run| run["status"] == "ok").count() >= times).then_some(runs)
    });
    let ok = runs.iter().filter(|run| run["status"] == "ok");
    ok.map(|run| {
        let path = format!("/executions/{}", run["id"].as_str().unwrap());
        app.admin("GET", &path, &Value::Null).is(200).json()["logs"][0]["data"].clone()
    })
    .collect()
}

#[test]
fn a_cron_trigger_runs_its_script_at_its_times_each_once() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("tick", HANDLER, &NO_LIMITS);
    let id = trigger(&app, "cron", "tick", json!({ "schedule": "* * * * * *" }));
    let told = told(&app, "tick", 3);
    app.admin("PATCH", &format!("/triggers/{id}"), &json!({ "enabled": false })).is(200);
    let times: Vec<_> =
        told.iter().map(|told| told["event"]["cron"]["scheduled_at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|one, next| one < next), "each time once, in order: {times:?}");
    let first = &told[0]["event"];
    assert_eq!((&first["kind"], &first["cron"]["schedule"]), (&json!("cron"), &json!("* * * * * *")));
    assert_eq!((&first["cron"]["timezone"], &first["cron"]["missed"]), (&json!("UTC"), &json!(0)));
    assert_eq!(told[0]["delivery"]["attempt"], 1);
    let run = &runs(&app, "tick")[0];
    assert_eq!(run["invocation_type"], "schedule");
}

#[test]
fn two_nodes_on_one_database_run_each_time_once_and_either_goes_on_without_the_other() {
    let first = TestServer::start();
    let slug = {
        let app = first.app();
        app.deploy("tick", HANDLER, &NO_LIMITS);
        trigger(&app, "cron", "tick", json!({ "schedule": "* * * * * *", "missed": "all" }));
        app.slug
    };
    let second = TestServer::start_beside(&first);
    let app = second.existing_app(&slug);
    let while_both = told(&app, "tick", 3).len();
    // Asked to stop, it waits for what runs.
    drop(first);
    let told = told(&app, "tick", while_both + 3);
    let seconds: Vec<_> =
        told.iter().map(|told| second_of_day(&told["event"]["cron"]["scheduled_at"])).collect();
    // Counted from the first, half a day on: midnight may be among them.
    let seconds: BTreeSet<_> =
        seconds.iter().map(|second| (second - seconds[0] + 43_200).rem_euclid(86_400)).collect();
    assert_eq!(seconds.len(), told.len(), "each time once: {told:?}");
    // What came last may have overtaken what is not recorded yet.
    let seconds: Vec<_> = seconds.into_iter().take(told.len() - 2).collect();
    assert!(seconds.windows(2).all(|pair| pair[1] == pair[0] + 1), "none is left out: {told:?}");
}

/// Of a time such as `2026-11-26T14:00:07Z`.
fn second_of_day(time: &Value) -> i64 {
    let part = |at: usize| time.as_str().unwrap()[at..at + 2].parse::<i64>().unwrap();
    (part(11) * 60 + part(14)) * 60 + part(17)
}

#[test]
fn any_trigger_runs_by_hand() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("job", HANDLER, &NO_LIMITS);
    let yearly = trigger(&app, "cron", "job", json!({ "schedule": "0 0 1 1 *" }));
    let answer = app.admin("POST", &format!("/triggers/{yearly}:run"), &json!({})).is(202).json();
    let told_one = &told(&app, "job", 1)[0];
    assert_eq!(told_one["delivery"]["id"], answer["id"]);
    assert_eq!(told_one["event"]["cron"]["schedule"], "0 0 1 1 *");

    let kv = trigger(&app, "kv", "job", json!({ "collection": "users" }));
    let path = format!("/triggers/{kv}:run");
    app.admin("POST", &path, &json!({})).is_problem("invalid_input");
    app.admin("POST", &path, &json!({ "event": { "key": "ada" } })).is(202);
    assert_eq!(told(&app, "job", 2)[1]["event"]["kv"]["key"], "ada");
}

#[test]
fn a_message_reaches_every_trigger_of_its_topic() {
    let server = TestServer::shared();
    let app = server.app();
    for name in ["one", "all", "other"] {
        app.deploy(name, HANDLER, &NO_LIMITS);
    }
    trigger(&app, "pubsub", "one", json!({ "topic": "orders.paid" }));
    trigger(&app, "pubsub", "all", json!({ "topic": "orders.*" }));
    trigger(&app, "pubsub", "other", json!({ "topic": "users.*" }));
    let source = r#"[pubsub::publish("orders.paid", #{ id: 7 }), pubsub::publish("nobody.cares", 1)]"#;
    assert_eq!(app.run("shop", source, &NO_LIMITS).is(200).json(), json!([2, 0]));
    for name in ["one", "all"] {
        let event = &told(&app, name, 1)[0]["event"];
        assert_eq!((&event["kind"], &event["pubsub"]["topic"]), (&json!("pubsub"), &json!("orders.paid")));
        assert_eq!(event["pubsub"]["message"], json!({ "id": 7 }));
        assert!(event["pubsub"]["published_at"].is_string(), "{event}");
    }
    let source = r#"pubsub::publish_ephemeral("users.new", "ada")"#;
    assert_eq!(app.run("signup", source, &NO_LIMITS).is(200).json(), json!(1));
    assert_eq!(told(&app, "other", 1)[0]["event"]["pubsub"]["message"], "ada");
    let refused = app.run("wrong", r#"pubsub::publish("a b", 1)"#, &NO_LIMITS);
    refused.is_problem("script_error");
}

#[test]
fn what_one_node_is_told_to_do_the_other_does_too() {
    let first = TestServer::start();
    let slug = {
        let app = first.app();
        app.deploy("job", HANDLER, &NO_LIMITS);
        app.slug
    };
    // The first has every shard, and heard nothing of what the second is told.
    let second = TestServer::start_beside(&first);
    let app = second.existing_app(&slug);
    trigger(&app, "pubsub", "job", json!({ "topic": "x" }));
    app.run("send", r#"pubsub::publish("x", 1)"#, &NO_LIMITS).is(200);
    assert_eq!(told(&app, "job", 1)[0]["event"]["pubsub"]["message"], 1);
    assert_eq!(app.admin("GET", "/dead-letters", &Value::Null).is(200).json()["items"], json!([]));

    let there = first.existing_app(&slug);
    eventually("a route of the second answers on the first", || {
        (there.get("/send").status == 200).then_some(())
    });
    told(&app, "job", 2);
}

#[test]
fn a_failed_event_is_a_dead_letter_whose_handler_runs() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("fails", r#"throw "no";"#, &NO_LIMITS);
    app.deploy("undertaker", HANDLER, &NO_LIMITS);
    trigger(&app, "dead_letter", "undertaker", json!({ "script": "fails" }));
    let body = json!({
        "kind": "pubsub", "script": "fails", "config": { "topic": "x" },
        "retry": { "max_attempts": 2, "base_ms": 1, "cap_ms": 1 },
    });
    let id = trigger_of(&app, &body);
    app.run("send", r#"pubsub::publish("x", 1)"#, &NO_LIMITS).is(200);
    let event = &told(&app, "undertaker", 1)[0]["event"];
    let about = &event["dead_letter"];
    assert_eq!((&about["trigger_id"], &about["script"]), (&json!(id), &json!("fails")));
    assert_eq!((&about["attempts"], &about["original"]["pubsub"]["message"]), (&json!(2), &json!(1)));
    assert!(about["errors"][0]["message"].as_str().unwrap().contains("no"), "{about}");
    assert_eq!(runs(&app, "fails").len(), 2);
}

#[test]
fn the_events_of_a_paused_trigger_wait_for_who_takes_it_over() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("job", HANDLER, &NO_LIMITS);
    let person =
        json!({ "username": format!("bob-{}", app.slug), "password": "a long enough pass phrase 17" });
    let name = person["username"].as_str().unwrap();
    server.admin("POST", "/users", &person).is(201);
    app.admin("POST", "/members", &json!({ "user": name, "role": "editor" })).is(201);
    let login =
        server.admin("POST", "/auth/login", &json!({ "username": name, "password": person["password"] }));
    let bearer = format!("Bearer {}", login.is(200).json()["token"].as_str().unwrap());
    let body = json!({ "kind": "pubsub", "script": "job", "config": { "topic": "x" } }).to_string();
    let path = format!("/api/v1/admin/apps/{}/triggers", app.slug);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let made = server.client.send("POST", "localhost", &path, &headers, body.as_bytes()).is(201).json();
    let id = made["id"].as_str().unwrap();

    app.admin("DELETE", &format!("/members/{name}"), &Value::Null).is(204);
    let shown = app.admin("GET", &format!("/triggers/{id}"), &Value::Null).is(200).json();
    assert!(shown["paused"].as_str().unwrap().contains("is no member"), "{shown}");
    app.run("send", r#"pubsub::publish("x", 1)"#, &NO_LIMITS).is(200);
    eventually("the event waits", || {
        let outbox = app.admin("GET", "/outbox", &Value::Null).is(200).json();
        let row = outbox["items"].as_array().unwrap().first().cloned()?;
        row["due_at"].is_null().then_some(())
    });
    assert!(runs(&app, "job").is_empty());
    app.admin("POST", &format!("/triggers/{id}:take-over"), &json!({})).is(200);
    assert_eq!(told(&app, "job", 1)[0]["event"]["pubsub"]["message"], 1);
}

#[test]
fn a_handler_that_fails_is_not_tried_again_and_the_dead_letter_says_so() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("fails", r#"throw retry::fatal("no");"#, &NO_LIMITS);
    app.deploy("undertaker", r#"throw "cannot";"#, &NO_LIMITS);
    trigger(&app, "dead_letter", "undertaker", json!({}));
    trigger(&app, "pubsub", "fails", json!({ "topic": "x" }));
    app.run("send", r#"pubsub::publish("x", 1)"#, &NO_LIMITS).is(200);
    let letters = eventually("the failure is noted", || {
        let list = app.admin("GET", "/dead-letters", &Value::Null).is(200).json();
        let items = list["items"].as_array().unwrap().clone();
        items.iter().any(|item| item["resolution"] == "handler_failed").then_some(items)
    });
    assert_eq!(letters.len(), 1, "the handler's failure is no dead letter of its own");
    let handled = eventually("the handler's run is recorded", || {
        Some(runs(&app, "undertaker")).filter(|runs| !runs.is_empty())
    });
    assert_eq!((handled.len(), &handled[0]["status"]), (1, &json!("script_error")));
    assert_eq!(app.admin("GET", "/outbox", &Value::Null).is(200).json()["items"], json!([]));
}

#[test]
fn a_script_that_causes_itself_ends_and_leaves_a_record_of_it() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("echo", r#"pubsub::publish("loop", ctx.trigger_depth);"#, &NO_LIMITS);
    trigger(&app, "pubsub", "echo", json!({ "topic": "loop" }));
    app.run("start", r#"pubsub::publish("loop", 0)"#, &NO_LIMITS).is(200);
    let all = eventually("the chain ends", || {
        let all = runs(&app, "echo");
        let last = all.iter().find(|run| run["status"] == "depth_exceeded")?;
        // A failure may be written before the runs that went before it.
        all.iter().any(|run| run["id"] == last["parent_id"]).then_some(all)
    });
    let count = |status: &str| all.iter().filter(|run| run["status"] == status).count();
    assert_eq!((count("ok"), count("depth_exceeded")), (8, 1));
    assert_eq!(app.admin("GET", "/dead-letters", &Value::Null).is(200).json()["items"], json!([]));
}
