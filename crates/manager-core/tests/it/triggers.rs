//! Triggers: made, changed, taken over, refused.

use serde_json::{Value, json};

use crate::harness::{Reply, TestApi};

async fn create(api: &TestApi, body: Value) -> Reply {
    api.post("/apps/default/triggers", body).await
}

fn nightly() -> Value {
    json!({ "kind": "cron", "name": "nightly", "script": "hello", "config": { "schedule": "0 3 * * *" } })
}

fn path(made: &Reply) -> String {
    format!("/apps/default/triggers/{}", made.is(201)["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_trigger_is_made_shown_changed_and_removed() {
    let api = TestApi::start().await;
    let made = create(&api, nightly()).await;
    let path = path(&made);
    assert_eq!(made.json["config"]["timezone"], "UTC");
    assert_eq!(
        made.json["retry"],
        json!({ "max_attempts": 5, "backoff": "exponential", "base_ms": 2000, "cap_ms": 3_600_000 })
    );
    assert_eq!((&made.json["enabled"], &made.json["registered_by"]), (&json!(true), &json!("ada")));
    assert_eq!(made.json["upcoming"].as_array().unwrap().len(), 20);

    let change = json!({ "enabled": false, "retry": { "max_attempts": 1 } });
    let changed = api.call("PATCH", &path, Some(change)).await;
    assert_eq!(
        (&changed.is(200)["enabled"], &changed.json["retry"]["max_attempts"]),
        (&json!(false), &json!(1))
    );
    assert_eq!(changed.json["retry"]["base_ms"], 2000);
    let unnamed = api.call("PATCH", &path, Some(json!({ "name": null }))).await;
    assert_eq!(unnamed.is(200)["name"], Value::Null);
    assert_eq!(api.get(&path).await.is(200)["config"]["schedule"], "0 3 * * *");

    create(&api, json!({ "kind": "kv", "script": "hello", "config": { "collection": "users" } }))
        .await
        .is(201);
    assert_eq!(api.all_pages("/apps/default/triggers", 1).await.len(), 2);
    assert_eq!(api.all_pages("/apps/default/triggers?kind=kv", 1).await.len(), 1);

    assert_eq!(api.call("DELETE", &path, None).await.status, 204);
    api.get(&path).await.is_problem("not_found");
    api.call("DELETE", &path, None).await.is_problem("not_found");
}

#[tokio::test]
async fn a_trigger_runs_an_endpoint_of_its_own_app_and_nothing_else() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    api.deploy("other", "theirs", "1").await.is(201);
    let module = json!({ "source": "fn f() {}", "kind": "module" });
    api.call("PUT", "/apps/default/scripts/base", Some(module)).await.is(201);
    for (script, reason) in [("theirs", "no script"), ("base", "is a module"), ("../x", "no script")] {
        let body = json!({ "kind": "kv", "script": script, "config": { "collection": "*" } });
        let problem = create(&api, body).await;
        assert_eq!(problem.is_problem("invalid_input")["field"], "script");
        assert!(problem.text.contains(reason), "{}", problem.text);
    }
    let path = path(&create(&api, nightly()).await);
    for script in ["theirs", "base"] {
        let reply = api.call("PATCH", &path, Some(json!({ "script": script }))).await;
        assert_eq!(reply.is_problem("invalid_input")["field"], "script");
    }
    // The other app knows nothing of it.
    let foreign = path.replace("/default/", "/other/");
    api.get(&foreign).await.is_problem("not_found");
    api.call("DELETE", &foreign, None).await.is_problem("not_found");
}

#[tokio::test]
async fn triggers_that_cannot_be_are_refused_by_field() {
    let api = TestApi::start().await;
    let cases = [
        (json!({ "script": "hello", "config": {} }), "kind"),
        (json!({ "kind": "cron", "config": {} }), "script"),
        (json!({ "kind": "cron", "script": "hello" }), "config"),
        (json!({ "kind": "cron", "script": "hello", "config": {} }), "config"),
        (json!({ "kind": "sun", "script": "hello", "config": {} }), "kind"),
        (json!({ "kind": "cron", "script": "hello", "config": { "schedule": "x" } }), "config.schedule"),
        (
            json!({ "kind": "kv", "script": "hello", "config": { "collection": "a", "operations": ["create"] } }),
            "config.operations[0]",
        ),
        (
            json!({ "kind": "kv", "script": "hello", "config": { "collection": "a" }, "retry": { "max_attempts": 26 } }),
            "retry.max_attempts",
        ),
        (json!({ "kind": "kv", "script": "hello", "config": { "collection": "a" }, "name": "a b" }), "name"),
    ];
    for (body, field) in cases {
        let reply = create(&api, body).await;
        assert_eq!(reply.is_problem("invalid_input")["field"], field, "{}", reply.text);
    }
    let path = path(&create(&api, nightly()).await);
    create(&api, nightly()).await.is_problem("conflict");
    let other_kind = json!({ "kind": "kv" });
    assert_eq!(api.call("PATCH", &path, Some(other_kind)).await.is_problem("conflict")["field"], "kind");
}

#[tokio::test]
async fn a_queue_has_one_consumer() {
    let api = TestApi::start().await;
    let consumer = |queue: &str| json!({ "kind": "queue", "script": "hello", "config": { "queue": queue } });
    create(&api, consumer("mails")).await.is(201);
    let second = path(&create(&api, consumer("bills")).await);
    assert_eq!(create(&api, consumer("mails")).await.is_problem("conflict")["field"], "config.queue");
    let moved = api.call("PATCH", &second, Some(json!({ "config": { "queue": "mails" } }))).await;
    moved.is_problem("conflict");
}

#[tokio::test]
async fn queues_with_and_without_a_consumer_are_listed_by_name_in_pages() {
    let api = TestApi::start().await;
    for queue in ["b", "d"] {
        let config = json!({ "queue": queue });
        create(&api, json!({ "kind": "queue", "script": "hello", "config": config })).await.is(201);
    }
    for queue in ["c", "a", "e"] {
        api.post(&format!("/apps/default/queues/{queue}/messages"), json!({ "message": 1 })).await.is(202);
    }
    let queues = api.all_pages("/apps/default/queues", 2).await;
    let names: Vec<_> = queues.iter().map(|queue| queue["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    assert_eq!((&queues[0]["ready"], &queues[1]["ready"]), (&json!(1), &json!(0)));
    assert!(queues[0]["consumer"].is_null());
}

#[tokio::test]
async fn who_changes_what_runs_stands_behind_it_and_who_switches_it_off_does_not() {
    let api = TestApi::start().await;
    let path = path(&create(&api, nightly()).await);
    let bob = api.person("bob", "owner").await;
    let switched = bob.call("PATCH", &path, Some(json!({ "enabled": false }))).await;
    assert_eq!(switched.is(200)["registered_by"], "ada");
    let changed = bob.call("PATCH", &path, Some(json!({ "config": { "schedule": "0 4 * * *" } }))).await;
    assert_eq!(changed.is(200)["registered_by"], "bob");
    let taken = api.call("POST", &format!("{path}:take-over"), None).await;
    assert_eq!(taken.is(200)["registered_by"], "ada");
}

#[tokio::test]
async fn a_trigger_is_paused_while_its_registrant_lacks_the_right_to_run_the_script() {
    let api = TestApi::start().await;
    let bob = api.person("bob", "member").await;
    api.post("/apps/default/members", json!({ "user": "bob", "role": "editor" })).await.is(201);
    let path = path(&create(&bob, nightly()).await);
    assert_eq!(api.get(&path).await.is(200)["paused"], Value::Null);
    api.call("PATCH", "/apps/default/members/bob", Some(json!({ "role": "viewer" }))).await.is(200);
    let reason = api.get(&path).await.is(200)["paused"].as_str().unwrap().to_owned();
    assert!(reason.contains("bob has the role viewer") && reason.contains("editor"), "{reason}");
    api.call("PATCH", "/apps/default/members/bob", Some(json!({ "role": "editor" }))).await.is(200);
    assert_eq!(api.get(&path).await.is(200)["paused"], Value::Null);
    api.call("PATCH", "/users/bob", Some(json!({ "disabled": true }))).await.is(200);
    assert_eq!(api.get(&path).await.is(200)["paused"], "the account bob is disabled");
    let taken = api.call("POST", &format!("{path}:take-over"), None).await;
    assert_eq!((&taken.is(200)["paused"], &taken.json["registered_by"]), (&Value::Null, &json!("ada")));
}

#[tokio::test]
async fn a_script_that_triggers_run_is_removed_only_by_force() {
    let api = TestApi::start().await;
    api.deploy("default", "job", "1").await.is(201);
    let body = json!({ "kind": "pubsub", "script": "job", "config": { "topic": "*" } });
    let path = path(&create(&api, body).await);
    let kept = api.call("DELETE", "/apps/default/scripts/job", None).await;
    assert_eq!(kept.is_problem("conflict")["triggers"].as_array().unwrap().len(), 1);
    assert_eq!(api.call("DELETE", "/apps/default/scripts/job?force=true", None).await.status, 204);
    api.get(&path).await.is_problem("not_found");
}

#[tokio::test]
async fn a_schedule_is_shown_before_there_is_a_trigger() {
    let api = TestApi::start().await;
    let schedule = json!({ "schedule": "0 0 1 1 *", "timezone": "Europe/Vienna" });
    let shown = api.post("/apps/default/triggers:preview", schedule).await;
    let first = shown.is(200)["upcoming"][0].as_str().unwrap();
    assert!(first.ends_with("-12-31T23:00:00Z"), "{first}");
    let wrong = api.post("/apps/default/triggers:preview", json!({ "schedule": "0 0 30 2 *" })).await;
    assert_eq!(wrong.is_problem("invalid_input")["field"], "config.schedule");
}

#[tokio::test]
async fn a_manifest_makes_changes_and_removes_triggers() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "shop" })).await.is(201);
    let manifest = |schedule: &str, triggers: &[Value]| {
        let mut all = vec![
            json!({ "name": "nightly", "kind": "cron", "script": "job", "config": { "schedule": schedule } }),
        ];
        all.extend_from_slice(triggers);
        json!({ "scripts": { "job": { "source": "1" } }, "triggers": all })
    };
    let orders = json!({ "kind": "pubsub", "script": "job", "config": { "topic": "orders.*" }, "retry": { "max_attempts": 2 } });
    let apply = async |manifest: Value| {
        let reply = api.post("/apps/shop:apply", manifest).await;
        let changes = reply.is(200)["changes"].as_array().unwrap().iter();
        let lines = changes.map(|change| {
            format!("{} {} {}", change["action"], change["kind"], change["name"]).replace('"', "")
        });
        lines.collect::<Vec<_>>()
    };
    let first = manifest("0 3 * * *", std::slice::from_ref(&orders));
    assert_eq!(
        apply(first.clone()).await,
        ["create script job", "create trigger cron nightly", "create trigger pubsub → job"]
    );
    assert_eq!(apply(first).await, [""; 0]);
    assert_eq!(
        apply(manifest("0 4 * * *", &[])).await,
        ["update trigger cron nightly", "delete trigger pubsub → job"]
    );
    let kept = api.all_pages("/apps/shop/triggers", 50).await;
    assert_eq!((kept.len(), &kept[0]["config"]["schedule"]), (1, &json!("0 4 * * *")));

    for (triggers, field) in [
        (vec![orders.clone(), orders], "triggers[2]"),
        (vec![json!({ "kind": "cron", "script": "gone", "config": {} })], "triggers[1].script"),
        (vec![json!({ "kind": "moon", "script": "job" })], "triggers[1].kind"),
        (vec![json!({ "kind": "kv", "script": "job", "config": {} })], "triggers[1].config"),
    ] {
        let refused = api.post("/apps/shop:plan", manifest("0 4 * * *", &triggers)).await;
        assert_eq!(refused.is_problem("invalid_input")["field"], field, "{}", refused.text);
    }
}
