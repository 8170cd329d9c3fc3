//! Changes of what scripts keep, until the handlers have run: with what was and what is, in order, and
//! exactly when the change was made.

use serde_json::{Value, json};

use crate::harness::{Canary, NO_LIMITS, TestApp, TestServer, eventually, print_row};

/// Logs what it was told, for the tests to read.
const HANDLER: &str = r#"log::info("event", ctx.event);"#;

fn watch(app: &TestApp<'_>, kind: &str, config: Value) {
    let body = json!({ "kind": kind, "script": "handler", "config": config });
    app.admin("POST", "/triggers", &body).is(201);
}

/// What the handler was told, when it has run so often; the member of the kind, in the order of the runs.
fn told(app: &TestApp<'_>, kind: &str, times: usize) -> Vec<Value> {
    let runs = eventually(&format!("the handler ran {times} times"), || {
        let list = app.admin("GET", "/executions?script=handler&limit=200", &Value::Null).is(200).json();
        let items = list["items"].as_array().unwrap().clone();
        (items.iter().filter(|run| run["status"] == "ok").count() >= times).then_some(items)
    });
    assert_eq!(runs.len(), times, "{runs:?}");
    let event = |run: &Value| {
        let path = format!("/executions/{}", run["id"].as_str().unwrap());
        let event = app.admin("GET", &path, &Value::Null).is(200).json()["logs"][0]["data"].clone();
        assert_eq!(event["kind"], kind, "{event}");
        event[kind].clone()
    };
    runs.iter().rev().map(event).collect()
}

#[test]
fn a_handler_is_told_of_keys_that_change() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("handler", HANDLER, &NO_LIMITS);
    watch(&app, "kv", json!({ "collection": "user*", "ordered": true }));
    let source = r#"
        let u = kv::collection("users");
        u.set("ada", #{ n: 1 });
        u.set("ada", #{ n: 2 });
        u.incr("count");
        u.incr("count", 4);
        u.delete("ada");
        u.delete("ada");
        kv::collection("others").set("x", 1);
        try { u.set_with("count", 1, #{ if_absent: true }); } catch {}
    "#;
    app.run("write", source, &NO_LIMITS).is(200);
    let expected = json!([
        { "collection": "users", "key": "ada", "op": "set", "value": { "n": 1 }, "prev": null },
        { "collection": "users", "key": "ada", "op": "set", "value": { "n": 2 }, "prev": { "n": 1 } },
        { "collection": "users", "key": "ada", "op": "delete", "value": null, "prev": { "n": 2 } },
        { "collection": "users", "key": "count", "op": "set", "value": 1, "prev": null },
        { "collection": "users", "key": "count", "op": "set", "value": 5, "prev": 1 },
    ]);
    // Changes of one key are in their order; those of several need not be.
    let mut seen = told(&app, "kv", 5);
    seen.sort_by_key(|event| event["key"].as_str().unwrap().to_owned());
    assert_eq!(Value::from(seen), expected);
}

#[test]
fn a_handler_is_told_of_documents_that_change() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("handler", HANDLER, &NO_LIMITS);
    watch(&app, "docs", json!({ "collection": "orders", "ordered": true }));
    let source = r#"
        let d = docs::collection("orders");
        let id = d.create(#{ total: 1 });
        d.patch(id, #{ paid: true });
        d.delete(id);
        d.delete(id);
        id
    "#;
    let id = app.run("write", source, &NO_LIMITS).is(200).json();
    let event = |op: &str, data: Value, prev: Value| json!({ "collection": "orders", "id": id, "op": op, "data": data, "prev": prev });
    let (first, second) = (json!({ "total": 1 }), json!({ "total": 1, "paid": true }));
    let expected = [
        event("create", first.clone(), Value::Null),
        event("update", second.clone(), first),
        event("delete", Value::Null, second),
    ];
    assert_eq!(told(&app, "docs", 3), expected);
}

#[test]
fn a_handler_is_told_of_files_that_change() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("handler", HANDLER, &NO_LIMITS);
    watch(
        &app,
        "files",
        json!({ "collection": "pics", "operations": ["create", "delete"], "ordered": true }),
    );
    let source = r#"
        let f = files::collection("pics");
        let made = f.create(#{ name: "a.png", content_type: "image/png", data: "x" });
        f.update(made.id, #{ name: "b.png" });
        f.delete(made.id);
    "#;
    app.run("write", source, &NO_LIMITS).is(200);
    let seen = told(&app, "files", 2);
    assert_eq!((&seen[0]["op"], &seen[0]["meta"]["name"]), (&json!("create"), &json!("a.png")));
    assert_eq!((&seen[1]["op"], &seen[1]["meta"]), (&json!("delete"), &Value::Null));
    assert_eq!(seen[1]["prev"]["name"], "b.png");
}

#[test]
fn a_commit_that_fails_tells_nobody_and_one_that_holds_tells_of_each_change() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("handler", HANDLER, &NO_LIMITS);
    watch(&app, "kv", json!({ "collection": "accounts" }));
    let source = r#"
        let refused = ();
        try {
            atomic::commit([
                #{ kv: "accounts", key: "ada", set: 1 },
                #{ kv: "accounts", key: "bob", check: 7 },
            ]);
        } catch (error) { refused = error.code; }
        atomic::commit([
            #{ kv: "accounts", key: "ada", set: 2 },
            #{ kv: "accounts", key: "bob", incr: 3 },
        ]);
        refused
    "#;
    assert_eq!(app.run("write", source, &NO_LIMITS).is(200).json(), "conflict");
    let mut seen: Vec<_> = told(&app, "kv", 2).into_iter().map(|event| event["value"].clone()).collect();
    seen.sort_by_key(Value::as_i64);
    assert_eq!(seen, [json!(2), json!(3)]);
}

#[test]
fn what_people_change_is_told_too() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("handler", HANDLER, &NO_LIMITS);
    watch(&app, "kv", json!({ "collection": "*" }));
    app.admin("PUT", "/kv/settings/theme", &json!({ "value": "dark" })).is(200);
    assert_eq!(told(&app, "kv", 1)[0]["value"], "dark");
}

#[test]
fn a_change_is_told_when_somebody_takes_over_the_trigger_whose_owner_has_left() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("handler", HANDLER, &NO_LIMITS);
    let (name, password) = (format!("bob-{}", app.slug), "a long enough pass phrase 17");
    server.admin("POST", "/users", &json!({ "username": name, "password": password })).is(201);
    app.admin("POST", "/members", &json!({ "user": name, "role": "editor" })).is(201);
    let login = server.admin("POST", "/auth/login", &json!({ "username": name, "password": password }));
    let bearer = format!("Bearer {}", login.is(200).json()["token"].as_str().unwrap());
    let body = json!({ "kind": "kv", "script": "handler", "config": { "collection": "c" } }).to_string();
    let path = format!("/api/v1/admin/apps/{}/triggers", app.slug);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let made = server.client.send("POST", "localhost", &path, &headers, body.as_bytes()).is(201).json();
    let id = made["id"].as_str().unwrap();
    app.admin("DELETE", &format!("/members/{name}"), &Value::Null).is(204);
    app.run("write", "kv::collection(\"c\").set(\"k\", 1)", &NO_LIMITS).is(200);
    eventually("the event waits", || {
        let outbox = app.admin("GET", "/outbox", &Value::Null).is(200).json();
        let row = outbox["items"].as_array().unwrap().first().cloned()?;
        row["due_at"].is_null().then_some(())
    });
    app.admin("POST", &format!("/triggers/{id}:take-over"), &json!({})).is(200);
    assert_eq!(told(&app, "kv", 1)[0]["value"], 1);
}

/// A handler that changes what it watches is ended after eight rounds, and its chain is there to be seen.
#[test]
fn attack_17_a_handler_that_causes_itself_ends() {
    let server = TestServer::shared();
    let (app, canary) = (server.app(), Canary::beside(&server));
    app.deploy("handler", "kv::collection(\"loop\").incr(\"n\")", &NO_LIMITS);
    watch(&app, "kv", json!({ "collection": "loop" }));
    app.run("begin", "kv::collection(\"loop\").incr(\"n\")", &NO_LIMITS).is(200);
    let runs = eventually("the chain has ended", || {
        let list = app.admin("GET", "/executions?script=handler&limit=200", &Value::Null).is(200).json();
        let items = list["items"].as_array().unwrap().clone();
        let last = items.iter().find(|run| run["status"] == "depth_exceeded")?;
        // A failure may be written before the runs that went before it.
        items.iter().any(|run| run["id"] == last["parent_id"]).then_some(items)
    });
    let rounds = runs.iter().filter(|run| run["status"] == "ok").count();
    print_row("17", "a change that is watched", "cut off after 8 rounds", &rounds.to_string());
    assert_eq!(rounds, 8, "{runs:?}");
    canary.release("17");
}
