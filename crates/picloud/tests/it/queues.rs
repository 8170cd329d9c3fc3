//! Queues from the sending script to the handler, and what people do with them.

use serde_json::{Value, json};

use crate::harness::{NO_LIMITS, TestApp, TestServer, eventually};

const HANDLER: &str = r#"log::info("event", #{ event: ctx.event, delivery: ctx.delivery });"#;

fn consumer(app: &TestApp<'_>, script: &str, queue: &str, concurrency: u32) -> String {
    let config = json!({ "queue": queue, "concurrency": concurrency });
    let body = json!({ "kind": "queue", "script": script, "config": config });
    app.admin("POST", "/triggers", &body).is(201).json()["id"].as_str().unwrap().to_owned()
}

/// The messages that the handler was given, in the order in which it ran, when there are so many.
fn handled(app: &TestApp<'_>, script: &str, count: usize) -> Vec<Value> {
    let path = format!("/executions?script={script}&status=ok&limit=200");
    let mut runs = eventually(&format!("{script} ran {count} times"), || {
        let list = app.admin("GET", &path, &Value::Null).is(200).json();
        let items = list["items"].as_array().unwrap().clone();
        (items.len() >= count).then_some(items)
    });
    runs.sort_by_key(|run| run["started_at"].as_str().unwrap().to_owned());
    let event = |run: &Value| {
        let path = format!("/executions/{}", run["id"].as_str().unwrap());
        app.admin("GET", &path, &Value::Null).is(200).json()["logs"][0]["data"].clone()
    };
    runs.iter().map(event).collect()
}

fn level(app: &TestApp<'_>, queue: &str) -> Value {
    let list = app.admin("GET", "/queues", &Value::Null).is(200).json();
    list["items"].as_array().unwrap().iter().find(|item| item["name"] == queue).cloned().unwrap_or_default()
}

#[test]
fn a_message_waits_for_a_consumer_and_is_handled_once() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("mailer", HANDLER, &NO_LIMITS);
    let id = app.run("send", r#"queue::send("mails", #{ to: "ada" })"#, &NO_LIMITS).is(200).json();
    let before = level(&app, "mails");
    assert_eq!((&before["ready"], &before["consumer"]), (&json!(1), &Value::Null));
    consumer(&app, "mailer", "mails", 2);
    let told = handled(&app, "mailer", 1);
    assert_eq!(told[0]["delivery"]["id"], id);
    assert_eq!(told[0]["event"]["queue"]["message"], json!({ "to": "ada" }));
    assert_eq!(told[0]["event"]["queue"]["name"], "mails");
    eventually("nothing is left", || {
        let level = level(&app, "mails");
        (level["ready"] == 0 && level["in_flight"] == 0).then_some(())
    });
    let stats = app.run("stats", r#"queue::stats("mails")"#, &NO_LIMITS).is(200).json();
    assert_eq!((&stats["ready"], &stats["paused"]), (&json!(0), &json!(false)));
}

#[test]
fn one_at_a_time_is_in_order_and_a_failing_message_keeps_its_place() {
    let server = TestServer::shared();
    let app = server.app();
    let source = r#"
        let event = ctx.event;
        if event.queue.message == 2 && ctx.delivery.attempt == 1 { throw "once"; }
        log::info("event", #{ event: event, delivery: ctx.delivery });"#;
    app.deploy("worker", source, &NO_LIMITS);
    let body = json!({
        "kind": "queue", "script": "worker", "config": { "queue": "jobs", "concurrency": 1 },
        "retry": { "base_ms": 1, "cap_ms": 1 },
    });
    app.admin("POST", "/triggers", &body).is(201);
    app.run("send", r#"for n in 1..6 { queue::send("jobs", n); }"#, &NO_LIMITS).is(200);
    let order: Vec<_> =
        handled(&app, "worker", 5).iter().map(|told| told["event"]["queue"]["message"].clone()).collect();
    assert_eq!(order, [1, 2, 3, 4, 5]);
}

#[test]
fn a_hundred_messages_are_all_handled() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("worker", HANDLER, &NO_LIMITS);
    consumer(&app, "worker", "many", 8);
    app.run("send", r#"for n in 0..100 { queue::send("many", n); }"#, &NO_LIMITS).is(200);
    let mut numbers: Vec<_> = handled(&app, "worker", 100)
        .iter()
        .map(|told| told["event"]["queue"]["message"].as_i64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
}

#[test]
fn what_one_node_is_sent_another_handles_and_either_goes_on_without_the_other() {
    let first = TestServer::start();
    let slug = {
        let app = first.app();
        app.deploy("worker", HANDLER, &NO_LIMITS);
        consumer(&app, "worker", "jobs", 2);
        app.serve("send", r#"for n in 0..20 { queue::send("jobs", n); }"#, &NO_LIMITS);
        app.slug
    };
    // The first has every shard: the second hears of no attempt.
    let second = TestServer::start_beside(&first);
    let app = second.existing_app(&slug);
    app.get("/send").is(200);
    assert_eq!(handled(&app, "worker", 20).len(), 20, "each once");
    app.admin("POST", "/queues/jobs:pause", &json!({})).is(204);
    app.get("/send").is(200);
    app.admin("POST", "/queues/jobs:resume", &json!({})).is(204);
    assert_eq!(handled(&app, "worker", 40).len(), 40, "each once");
    drop(first);
    app.get("/send").is(200);
    assert_eq!(handled(&app, "worker", 60).len(), 60, "each once");
}

#[test]
fn a_delayed_message_is_not_handled_before_its_time_and_a_repeated_one_once() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("worker", HANDLER, &NO_LIMITS);
    consumer(&app, "worker", "later", 4);
    let source = r#"
        queue::send("later", "late", #{ delay: 0.7 });
        let first = queue::send("later", "once", #{ dedup: "a" });
        let again = queue::send("later", "once", #{ dedup: "a" });
        let other = "";
        try { queue::send("later", "another", #{ dedup: "a" }); } catch (e) { other = e.code; }
        [first == again, other]"#;
    assert_eq!(app.run("send", source, &NO_LIMITS).is(200).json(), json!([true, "conflict"]));
    let told = handled(&app, "worker", 2);
    let messages: Vec<_> = told.iter().map(|told| &told["event"]["queue"]["message"]).collect();
    assert_eq!(messages, ["once", "late"]);
}

#[test]
fn a_paused_queue_can_be_looked_at_purged_and_resumed() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("worker", HANDLER, &NO_LIMITS);
    consumer(&app, "worker", "jobs", 4);
    app.admin("POST", "/queues/jobs:pause", &json!({})).is(204);
    for number in 0..3 {
        app.admin("POST", "/queues/jobs/messages", &json!({ "message": number })).is(202);
    }
    let first = app.admin("GET", "/queues/jobs/messages?limit=2", &Value::Null).is(200).json();
    let shown: Vec<_> =
        first["items"].as_array().unwrap().iter().map(|item| item["message"].clone()).collect();
    assert_eq!(shown, [0, 1]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest =
        app.admin("GET", &format!("/queues/jobs/messages?cursor={cursor}"), &Value::Null).is(200).json();
    assert_eq!(rest["items"][0]["message"], 2);
    assert_eq!((&level(&app, "jobs")["ready"], &level(&app, "jobs")["paused"]), (&json!(3), &json!(true)));
    let purged = app.admin("POST", "/queues/jobs:purge", &json!({})).is(200).json();
    assert_eq!(purged["messages"], 3);
    app.admin("POST", "/queues/jobs/messages", &json!({ "message": "kept" })).is(202);
    app.admin("POST", "/queues/jobs:resume", &json!({})).is(204);
    assert_eq!(handled(&app, "worker", 1)[0]["event"]["queue"]["message"], "kept");
}

#[test]
fn messages_that_were_given_up_are_driven_again() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("worker", r#"throw "not yet";"#, &NO_LIMITS);
    let body = json!({
        "kind": "queue", "script": "worker", "config": { "queue": "jobs" }, "retry": { "max_attempts": 1 },
    });
    app.admin("POST", "/triggers", &body).is(201);
    app.admin("POST", "/queues/jobs/messages", &json!({ "message": 1 })).is(202);
    eventually("the message is a dead letter", || {
        let list = app.admin("GET", "/dead-letters?unresolved=true", &Value::Null).is(200).json();
        (list["items"].as_array().unwrap().len() == 1).then_some(())
    });
    app.deploy("worker", HANDLER, &NO_LIMITS);
    assert_eq!(app.admin("POST", "/queues/jobs:redrive", &json!({})).is(200).json()["messages"], 1);
    let told = handled(&app, "worker", 1);
    assert_eq!(told[0]["event"]["queue"]["message"], 1);
    assert!(told[0]["delivery"]["replay_of"].is_string(), "{told:?}");
}

#[test]
fn messages_that_a_former_consumer_gave_up_go_to_the_present_one_and_no_others_do() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("former", r#"throw retry::fatal("never");"#, &NO_LIMITS);
    let former = consumer(&app, "former", "jobs", 1);
    consumer(&app, "former", "other", 1);
    // One that looks like a message of the queue, of which others are.
    let decoy = json!({ "queue": { "name": "jobs" } });
    app.admin("POST", "/queues/other/messages", &json!({ "message": decoy })).is(202);
    for number in 0..2 {
        app.admin("POST", "/queues/jobs/messages", &json!({ "message": number })).is(202);
    }
    let open =
        || app.admin("GET", "/dead-letters?unresolved=true", &Value::Null).is(200).json()["items"].clone();
    eventually("all are dead letters", || (open().as_array().unwrap().len() == 3).then_some(()));

    app.admin("DELETE", &format!("/triggers/{former}"), &Value::Null).is(204);
    app.admin("POST", "/queues/jobs:redrive", &json!({})).is_problem("conflict");
    app.deploy("present", HANDLER, &NO_LIMITS);
    consumer(&app, "present", "jobs", 1);
    assert_eq!(app.admin("POST", "/queues/jobs:redrive", &json!({})).is(200).json()["messages"], 2);
    let told = handled(&app, "present", 2);
    let messages: Vec<_> = told.iter().map(|told| &told["event"]["queue"]["message"]).collect();
    assert_eq!(messages, [0, 1], "in their order, because it handles one at a time");
    assert!(told.iter().all(|told| told["delivery"]["replay_of"].is_string()), "{told:?}");
    assert_eq!(open().as_array().unwrap().len(), 1, "what is of another queue stays");
}

#[test]
fn messages_of_one_key_are_handled_in_turn_whatever_their_neighbours_do() {
    let server = TestServer::shared();
    let app = server.app();
    let source = r#"
        let event = ctx.event;
        if event.queue.message == "a1" && ctx.delivery.attempt < 3 { throw "not yet"; }
        log::info("event", #{ event: event, delivery: ctx.delivery });"#;
    app.deploy("worker", source, &NO_LIMITS);
    let body = json!({
        "kind": "queue", "script": "worker", "config": { "queue": "keyed", "concurrency": 8 },
        "retry": { "base_ms": 300, "cap_ms": 300 },
    });
    app.admin("POST", "/triggers", &body).is(201);
    let source = r#"
        for message in ["a1", "a2", "b1", "a3"] {
            queue::send("keyed", message, #{ key: message.sub_string(0, 1) });
        }"#;
    app.run("send", source, &NO_LIMITS).is(200);
    let order: Vec<_> = handled(&app, "worker", 4)
        .iter()
        .map(|told| told["event"]["queue"]["message"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(order, ["b1", "a1", "a2", "a3"], "b does not wait for a, which fails twice");
}

#[test]
fn a_commit_and_its_messages_are_one() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("mailer", HANDLER, &NO_LIMITS);
    app.deploy("listener", HANDLER, &NO_LIMITS);
    consumer(&app, "mailer", "mails", 1);
    let listens = json!({ "kind": "pubsub", "script": "listener", "config": { "topic": "orders.*" } });
    app.admin("POST", "/triggers", &listens).is(201);
    let source = r#"
        let refused = ();
        try {
            atomic::commit([
                #{ queue: "mails", send: "never" },
                #{ pubsub: "orders.paid", publish: "never" },
                #{ kv: "orders", key: "17", check: 7 },
            ]);
        } catch (error) { refused = error.code; }
        let done = atomic::commit([
            #{ kv: "orders", key: "17", set: "paid" },
            #{ queue: "mails", send: #{ to: "ada" }, key: "ada", dedup: "17" },
            #{ pubsub: "orders.paid", publish: () },
        ]);
        [refused, done[1], done[2]]
    "#;
    let done = app.run("pay", source, &NO_LIMITS).is(200).json();
    assert_eq!((&done[0], &done[2]), (&json!("conflict"), &json!(1)));
    let (mails, news) = (handled(&app, "mailer", 1), handled(&app, "listener", 1));
    assert_eq!((mails.len(), news.len()), (1, 1));
    assert_eq!(
        (&mails[0]["delivery"]["id"], &mails[0]["event"]["queue"]["message"]["to"]),
        (&done[1], &json!("ada"))
    );
    assert_eq!(news[0]["event"]["pubsub"]["message"], Value::Null);
    let wrong =
        r#"try { atomic::commit([#{ queue: "q", publish: 1 }]) } catch (error) { return error.code }"#;
    assert_eq!(app.run("wrong", wrong, &NO_LIMITS).is(200).json(), "invalid_argument");
    let wrong = r#"try { atomic::commit([#{ queue: "q", kv: "c", key: "k", set: 1 }]) } catch (error) { return error.code }"#;
    assert_eq!(app.run("two-kinds", wrong, &NO_LIMITS).is(200).json(), "invalid_argument");
}
