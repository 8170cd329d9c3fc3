//! Dry runs: a script runs for real, and nothing of it is there afterwards.

use serde_json::{Value, json};

use crate::harness::{NO_LIMITS, TestApp, TestServer, World, eventually};

fn dry_run(app: &TestApp<'_>, source: &str) -> Value {
    app.deploy("try", source, &NO_LIMITS);
    app.admin("POST", "/scripts/try/invoke?dry_run=true", &json!({})).is(200).json()
}

#[test]
fn a_dry_run_reads_what_it_wrote_and_leaves_nothing() {
    let server = TestServer::start();
    let app = server.app();
    app.admin("PUT", "/kv/c/there", &json!({ "value": 1 })).is(200);
    app.deploy("handler", "kv::collection(\"told\").set(\"k\", 1)", &NO_LIMITS);
    let trigger = json!({ "kind": "kv", "script": "handler", "config": { "collection": "c" } });
    app.admin("POST", "/triggers", &trigger).is(201);
    let source = r#"
        let c = kv::collection("c");
        c.set("there", 2);
        c.incr("there", 5);
        let refused = ();
        try { c.set_with("there", 0, #{ if_absent: true }); } catch (error) { refused = error.code; }
        let id = docs::collection("d").create(#{ n: 1 });
        docs::collection("d").patch(id, #{ m: 2 });
        let file = files::collection("f").create(#{ name: "a", data: "x" });
        atomic::commit([#{ kv: "c", key: "there", check: c.entry("there").version }, #{ kv: "c", key: "b", set: 3 }]);
        [c.get("there"), refused, docs::collection("d").get(id).data, files::collection("f").get(file.id).len(), c.get("b")]
    "#;
    let answer = dry_run(&app, source);
    assert_eq!(answer["body"], json!([7, "conflict", { "n": 1, "m": 2 }, 1, 3]), "{answer}");
    let would = &answer["dry_run"];
    let deeds: Vec<_> =
        would["deeds"].as_array().unwrap().iter().map(|deed| deed["call"].as_str().unwrap()).collect();
    let expected = ["kv.set", "kv.incr", "docs.create", "docs.patch", "files.create", "kv.set"];
    assert_eq!(deeds, expected, "{would}");
    assert_eq!((&would["deeds"][0]["target"], &would["deeds"][0]["value"]), (&json!("c/there"), &json!(2)));
    assert_eq!(would["events"], 3, "{would}");
    assert_eq!(app.admin("GET", "/kv/c/there", &Value::Null).is(200).json()["value"], 1);
    for list in ["/docs/d", "/files/f", "/kv/told"] {
        let items = app.admin("GET", list, &Value::Null).is(200).json()["items"].clone();
        assert_eq!(items, json!([]), "{list}");
    }
    assert_eq!(server.disk.query("select count(*)::text from outbox"), "0");
    assert_eq!(would["budget"], json!([]), "the app has none");
    let budget = json!({ "fuel_per_day": 1_000_000_000_000_u64, "executions_per_day": 8 });
    app.admin("PUT", "/budgets", &budget).is(200);
    let answer = app.admin("POST", "/scripts/try/invoke?dry_run=true", &json!({})).is(200).json();
    let [fuel, executions] = answer["dry_run"]["budget"].as_array().unwrap().as_slice() else {
        panic!("{answer}")
    };
    let takes = fuel["takes"].as_u64().unwrap();
    assert!(takes >= answer["execution"]["fuel"].as_u64().unwrap() && takes < 1_000_000_000, "{answer}");
    let of_all = fuel["share"].as_f64().unwrap() * 1e12 / fuel["takes"].as_f64().unwrap();
    assert!(fuel["name"] == "fuel_per_day" && (of_all - 1.0).abs() < 1e-6, "{fuel}");
    assert_eq!((&executions["takes"], &executions["share"]), (&json!(1), &json!(0.125)));
    // For real it does the same.
    let answer = app.admin("POST", "/scripts/try/invoke", &json!({})).is(200).json();
    assert_eq!(answer["body"][0], 7);
    assert!(answer.get("dry_run").is_none());
}

#[test]
fn a_dry_run_sends_no_messages_and_says_which_it_would() {
    let server = TestServer::start();
    let app = server.app();
    app.deploy("handler", "kv::collection(\"told\").set(\"k\", 1)", &NO_LIMITS);
    app.deploy("callee", "kv::collection(\"c\").set(\"callee\", ctx.args); ctx.args + 1", &NO_LIMITS);
    for (kind, config) in [("queue", json!({ "queue": "q" })), ("pubsub", json!({ "topic": "t.*" }))] {
        let trigger = json!({ "kind": kind, "script": "handler", "config": config });
        app.admin("POST", "/triggers", &trigger).is(201);
    }
    let source = r#"
        queue::send("q", #{ n: 1 });
        let heard = [pubsub::publish("t.a", 2), pubsub::publish_ephemeral("t.b", 3)];
        invoke_async("callee", 4);
        let answered = invoke("callee", 5);
        [queue::stats("q").ready, heard, answered, kv::collection("c").get("callee")]
    "#;
    let answer = dry_run(&app, source);
    assert_eq!(answer["body"], json!([1, [1, 1], 6, 5]), "{answer}");
    let would = &answer["dry_run"];
    let deeds: Vec<_> = would["deeds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|deed| json!([deed["call"], deed["target"], deed["value"]]))
        .collect();
    let expected = json!([
        ["queue.send", "q", { "n": 1 }],
        ["pubsub.publish", "t.a", 2],
        ["pubsub.publish_ephemeral", "t.b", 3],
        ["invoke_async", "callee", 4],
        ["kv.set", "c/callee", 5],
    ]);
    assert_eq!(Value::from(deeds), expected, "{would}");
    assert_eq!(would["events"], 2, "{would}");
    assert_eq!(server.disk.query("select count(*)::text from outbox"), "0");
    assert_eq!(server.disk.query("select count(*)::text from queue_messages"), "0");
    // What is sent for real now is the first that the handler hears of.
    app.run("send", "queue::send(\"q\", 1)", &NO_LIMITS).is(200);
    let runs = eventually("the handler ran", || {
        let list = app.admin("GET", "/executions?script=handler", &Value::Null).is(200).json();
        let items = list["items"].as_array().unwrap().clone();
        (!items.is_empty()).then_some(items)
    });
    assert_eq!(runs.len(), 1, "{runs:?}");
}

#[test]
fn a_dry_run_asks_nobody_in_the_world() {
    let server = TestServer::start_with(&[("PICLOUD_HTTP_ALLOW_PRIVATE", "127.0.0.0/8")]);
    let (app, world) = (server.app(), World::start());
    app.admin("PUT", "/egress", &json!({ "allow": null, "ports": [world.port()] })).is(200);
    app.admin("PUT", "/secrets/key", &json!({ "value": "a-secret-of-the-app" })).is(201);
    let source = format!(
        "let r = http::post({:?}, #{{ n: 1 }}, #{{ headers: #{{ authorization: secrets::handle(\"key\") }} }}); \
         let refused = (); \
         try {{ http::get(\"http://10.0.0.1/\") }} catch (error) {{ refused = error.code; }} \
         [r.status, r.headers, refused]",
        world.url("/anything")
    );
    let answer = dry_run(&app, &source);
    assert_eq!(answer["body"][0], 200, "{answer}");
    assert_eq!(answer["body"][1]["x-picloud-dry-run"], "true");
    assert_eq!(world.requests.load(std::sync::atomic::Ordering::Relaxed), 0);
    let deed = &answer["dry_run"]["deeds"][0];
    assert_eq!(deed["target"], format!("POST {}", world.url("/anything")));
    assert!(!answer.to_string().contains("a-secret-of-the-app"), "{answer}");
}

#[test]
fn attack_a_dry_run_shows_no_secret_among_what_it_would_write() {
    let server = TestServer::shared();
    let app = server.app();
    let secret = "a-\"secret\"\nof the app";
    app.admin("PUT", "/secrets/key", &json!({ "value": secret })).is(201);
    let source = r#"
        let secret = secrets::get("key");
        kv::collection("c").set("k", #{ token: "Bearer " + secret });
        docs::collection("d").create(#{ s: secret });
        queue::send("q", secret);
        1"#;
    let answer = dry_run(&app, source);
    let deeds = answer["dry_run"]["deeds"].as_array().unwrap();
    let values: Vec<_> = deeds.iter().map(|deed| deed["value"].clone()).collect();
    assert_eq!(
        values,
        [json!({ "token": "Bearer [secret]" }), json!({ "s": "[secret]" }), json!("[secret]")],
        "{answer}"
    );
}

#[test]
fn what_cannot_be_taken_back_cannot_be_tried() {
    let server = TestServer::shared();
    let app = server.app();
    let answer = dry_run(&app, "try { secrets::set(\"a\", \"b\") } catch (error) { return error.code }");
    assert_eq!(answer["body"], "unavailable", "{answer}");
    assert_eq!(app.admin("GET", "/secrets", &Value::Null).is(200).json()["items"], json!([]));
}
