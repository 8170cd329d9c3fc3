//! A whole app by one manifest: planned, applied, applied again.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::harness::{Reply, TestApi};

async fn plan(api: &TestApi, manifest: &Value) -> Reply {
    api.post("/apps/blog:plan", manifest.clone()).await
}

async fn apply(api: &TestApi, manifest: &Value) -> Reply {
    api.post("/apps/blog:apply", manifest.clone()).await
}

async fn blog() -> TestApi {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "blog" })).await.is(201);
    api
}

/// `create script a` for each change.
fn lines(reply: &Reply) -> Vec<String> {
    let changes = reply.is(200)["changes"].as_array().unwrap().iter();
    changes
        .map(|change| format!("{} {} {}", change["action"], change["kind"], change["name"]).replace('"', ""))
        .collect()
}

fn first() -> Value {
    json!({
        "name": "Our blog",
        "scripts": {
            "base": { "source": "fn f() { 1 }", "kind": "module" },
            "page": { "source": "import \"base\" as b;\nb::f()\n", "limits": { "fuel": 1_000_000 } },
        },
        "routes": [
            { "path": "/", "script": "page" },
            { "method": "GET", "path": "/posts/:id", "script": "page", "auth": "api_key" },
        ],
    })
}

#[tokio::test]
async fn a_manifest_is_planned_applied_and_then_nothing_is_left_to_do() {
    let api = blog().await;
    let planned = plan(&api, &first()).await;
    let expected = [
        "update app blog",
        "create script base",
        "create script page",
        "create route ANY /",
        "create route GET /posts/:id",
    ];
    assert_eq!(lines(&planned), expected);
    assert_eq!((&planned.json["create"], &planned.json["is_applied"]), (&json!(4), &json!(false)));
    assert!(planned.json["changes"][2]["diff"].as_str().unwrap().contains("+b::f()"));
    api.get("/apps/blog/scripts/page").await.is_problem("not_found");

    assert_eq!(lines(&apply(&api, &first()).await), expected);
    let table = api.manager.routes().current();
    let routes = &table.apps.iter().find(|app| app.slug.as_str() == "blog").unwrap().routes;
    assert_eq!(routes.len(), 2);
    assert!(routes.iter().all(|route| route.target.limits.fuel == 1_000_000 && route.target.version == 1));
    let entries = api.get("/apps/blog/audit?limit=50").await.is(200)["items"].as_array().unwrap().len();
    for again in [plan(&api, &first()).await, apply(&api, &first()).await] {
        assert_eq!(lines(&again), [""; 0]);
    }
    assert_eq!(
        api.get("/apps/blog/audit?limit=50").await.is(200)["items"].as_array().unwrap().len(),
        entries
    );
    assert_eq!(
        api.get("/apps/blog/scripts/page/versions").await.is(200)["items"].as_array().unwrap().len(),
        1
    );
}

#[tokio::test]
async fn a_change_is_told_field_by_field_and_what_is_not_there_any_more_goes() {
    let api = blog().await;
    apply(&api, &first()).await.is(200);
    let mut manifest = first();
    manifest["scripts"]["base"]["source"] = "fn f() { 2 }".into();
    manifest["scripts"]["other"] = json!({ "source": "1", "description": "new" });
    manifest["routes"] = json!([
        { "path": "/", "script": "other", "body_limit_bytes": 10 },
        { "method": "GET", "path": "/posts/:slug", "script": "page" },
    ]);
    let planned = plan(&api, &manifest).await;
    let expected = [
        "update script base",
        "create script other",
        "update script page",
        "update route ANY /",
        "update route GET /posts/:slug",
    ];
    assert_eq!(lines(&planned), expected);
    let changes = &planned.json["changes"];
    assert_eq!((&changes[2]["is_rebundled"], &changes[2]["diff"]), (&json!(true), &Value::Null));
    assert_eq!(changes[3]["fields"]["script"], json!({ "from": "page", "to": "other" }));
    assert_eq!(changes[4]["fields"]["auth"], json!({ "from": "api_key", "to": "none" }));
    let before = api.get("/apps/blog/routes").await.is(200)["items"][0]["id"].clone();
    apply(&api, &manifest).await.is(200);
    let after = api.get("/apps/blog/routes").await.is(200)["items"][0].clone();
    assert_eq!(
        (&after["id"], &after["script"]),
        (&before, &"other".into()),
        "a route that changes stays itself"
    );
    assert_eq!(api.get("/apps/blog/scripts/page").await.is(200)["version"], 2);

    let nothing = apply(&api, &json!({})).await;
    assert_eq!(nothing.is(200)["delete"], 5);
    for table in ["scripts", "routes", "bundles"] {
        let count =
            format!("select count(*) from {table} where app_id = (select id from apps where slug = 'blog')");
        let count: i64 = api.database.scalar(&count).await;
        assert_eq!(count, 0, "{table}");
    }
    assert_eq!(api.get("/apps/blog").await.is(200)["name"], "Our blog", "what is not said stays");
}

#[tokio::test]
async fn a_manifest_that_cannot_be_is_refused_whole_with_the_place() {
    let api = blog().await;
    let with_routes = |routes: Value| {
        let mut manifest = first();
        manifest["routes"] = routes;
        manifest
    };
    for (manifest, field, reason) in [
        (json!({ "queues": [] }), "queues", "unknown field `queues`"),
        (with_routes(json!([{ "path": "/", "script": "page", "colour": 1 }])), "routes[0]", "unknown field"),
        (with_routes(json!([{ "path": "x", "script": "page" }])), "routes[0].path", "begins with '/'"),
        (with_routes(json!([{ "path": "/", "script": "nobody" }])), "routes[0].script", "has no script"),
        (with_routes(json!([{ "path": "/", "script": "base" }])), "routes[0].script", "is a module"),
        (with_routes(json!([{ "path": "/", "script": "page", "host": "a.example" }])), "host", "not claimed"),
        (
            with_routes(json!([{ "path": "/:a", "script": "page" }, { "path": "/:b", "script": "page" }])),
            "routes[1].path",
            "routes[0] and routes[1] answer the same",
        ),
        (json!({ "topics": [{ "name": "a b" }] }), "topics[0].name", "use words"),
        (
            json!({ "topics": [{ "name": "a", "auth_mode": "everybody" }] }),
            "topics[0].auth_mode",
            "unknown variant",
        ),
        (json!({ "topics": [{ "name": "a" }, { "name": "a" }] }), "topics[1].name", "have the same name"),
        (
            json!({ "topics": [{ "name": "a", "description": "x".repeat(2_001) }] }),
            "topics[0].description",
            "at most 2000",
        ),
        (json!({ "secrets": ["../x"] }), "secrets[0]", "is not valid"),
    ] {
        for reply in [plan(&api, &manifest).await, apply(&api, &manifest).await] {
            let problem = reply.is_problem("invalid_input");
            assert!(problem["detail"].as_str().unwrap().contains(reason), "{problem}");
            let place = problem["field"].as_str().unwrap_or(".");
            assert!(place.starts_with(field), "{place} {field}");
        }
    }
    let broken = |source: &str| json!({ "scripts": { "hello": { "source": source } } });
    assert_eq!(plan(&api, &broken("@syntax")).await.is_problem("compile_error")["script"], "hello");
    let missing = plan(&api, &broken("import \"gone\" as g;")).await;
    assert_eq!(missing.is_problem("compile_error")["chain"], json!(["hello", "gone"]));
    let limit = json!({ "scripts": { "a": { "source": "1", "limits": { "memory_mb": 257 } } } });
    assert_eq!(apply(&api, &limit).await.is_problem("limit_out_of_range")["field"], "scripts.a.memory_mb");
    apply(&api, &first()).await.is(200);
    let mut other_kind = first();
    other_kind["scripts"]["page"] = json!({ "source": "fn f() {}", "kind": "module" });
    other_kind["routes"] = json!([]);
    apply(&api, &other_kind).await.is_problem("conflict");
    assert_eq!(lines(&plan(&api, &first()).await), [""; 0], "nothing of what was refused is there");
}

#[tokio::test]
async fn a_manifest_registers_changes_and_lets_go_of_topics() {
    let api = blog().await;
    let with = |topics: Value| json!({ "topics": topics });
    let two =
        with(json!([{ "name": "news", "external": true, "auth_mode": "public" }, { "name": "inner.work" }]));
    let planned = plan(&api, &two).await;
    assert_eq!(lines(&planned), ["create topic news", "create topic inner.work"]);
    assert_eq!(lines(&apply(&api, &two).await), lines(&planned));
    let shown = api.all_pages("/apps/blog/topics", 1).await;
    let shown: Vec<_> =
        shown.iter().map(|topic| json!([topic["name"], topic["external"], topic["auth_mode"]])).collect();
    assert_eq!(shown, [json!(["inner.work", false, "token"]), json!(["news", true, "public"])]);
    assert_eq!(lines(&apply(&api, &two).await), [""; 0]);

    let one = with(json!([{ "name": "news", "description": "What is new" }]));
    let changed = apply(&api, &one).await;
    assert_eq!(lines(&changed), ["update topic news", "delete topic inner.work"]);
    let fields = &changed.json["changes"][0]["fields"];
    assert_eq!(fields["external"], json!({ "from": true, "to": false }));
    assert_eq!(fields["auth_mode"], json!({ "from": "public", "to": "token" }));
    assert_eq!(lines(&apply(&api, &one).await), [""; 0]);
    let audit = api.get("/apps/blog/audit?action=topic.delete").await;
    assert_eq!(audit.is(200)["items"][0]["target"], "inner.work");
}

#[tokio::test]
async fn a_manifest_is_applied_only_when_the_secrets_it_needs_are_set() {
    let api = blog().await;
    let mut manifest = first();
    manifest["secrets"] = json!(["mail.key", "pay.key"]);
    let set = async |name: &str| {
        let body = Some(json!({ "value": "s3cret" }));
        api.call("PUT", &format!("/apps/blog/secrets/{name}"), body).await.is(201);
    };
    set("pay.key").await;
    assert_eq!(plan(&api, &manifest).await.is(200)["missing_secrets"], json!(["mail.key"]));
    let refused = apply(&api, &manifest).await;
    let problem = refused.is_problem("conflict");
    assert_eq!(problem["missing_secrets"], json!(["mail.key"]));
    assert!(problem["detail"].as_str().unwrap().contains("mail.key"), "{problem}");
    api.get("/apps/blog/scripts/page").await.is_problem("not_found");

    set("mail.key").await;
    let planned = plan(&api, &manifest).await;
    assert_eq!(planned.is(200)["missing_secrets"], json!([]));
    let applied = apply(&api, &manifest).await;
    assert_eq!(lines(&applied), lines(&planned), "what an app needs is no change of it");
    assert_eq!(lines(&apply(&api, &manifest).await), [""; 0]);
    assert!(!applied.text.contains("s3cret"));
}

#[tokio::test]
async fn an_exported_app_applied_to_another_makes_the_same_app() {
    let api = blog().await;
    api.post("/apps", json!({ "slug": "copy" })).await.is(201);
    let mut manifest = first();
    manifest["description"] = "What we think".into();
    manifest["routes"][1]["cors"] = json!({ "origins": ["https://a.example"] });
    manifest["routes"][1]["rate_limit"] = json!({ "requests": 5, "per_s": 60 });
    manifest["routes"][1]["dispatch_mode"] = "async".into();
    manifest["topics"] = json!([{ "name": "news", "external": true, "description": "d" }]);
    manifest["triggers"] = json!([
        { "kind": "pubsub", "script": "page", "config": { "topic": "news" }, "retry": { "max_attempts": 2 } },
        { "kind": "queue", "name": "w", "script": "page", "config": { "queue": "work" }, "enabled": false },
    ]);
    apply(&api, &manifest).await.is(200);
    for app in ["blog", "copy"] {
        let body = Some(json!({ "value": "s" }));
        api.call("PUT", &format!("/apps/{app}/secrets/key"), body).await.is(201);
    }
    let exported = api.get("/apps/blog/manifest").await.is(200).clone();
    assert_eq!(exported["secrets"], json!(["key"]));
    assert_eq!(lines(&apply(&api, &exported).await), [""; 0]);
    let copied = api.post("/apps/copy:apply", exported.clone()).await;
    assert_eq!(copied.is(200)["create"], 7);
    assert_eq!(*api.get("/apps/copy/manifest").await.is(200), exported);
}

#[tokio::test]
async fn attack_an_editor_cannot_rename_the_app_by_a_manifest() {
    let api = blog().await;
    let editor = api.person("eve", "member").await;
    api.post("/apps/blog/members", json!({ "user": "eve", "role": "editor" })).await.is(201);
    let refused = apply(&editor, &first()).await;
    assert_eq!(refused.is_problem("forbidden")["rule"], "app_role");
    let denied = api.get("/apps/blog/denials").await.is(200)["items"][0].clone();
    assert_eq!((&denied["username"], &denied["path"]), (&json!("eve"), &json!("/apps/blog:apply")));
    assert_eq!(denied["remedy"], "give eve the role app_admin on the app");
    let mut manifest = first();
    manifest["name"] = Value::Null;
    apply(&editor, &manifest).await.is(200);
    assert_eq!(api.get("/apps/blog").await.is(200)["name"], "blog");
}

/// From any app to any other: the plan says what apply does, and after it there is nothing to do.
#[tokio::test]
async fn applying_any_manifest_twice_changes_nothing_the_second_time() {
    let api = blog().await;
    let script = (0..3_u8, proptest::option::of(1_000_000..1_000_003_u64), 0..2_u8);
    let scripts = proptest::collection::btree_map("[abc]", script, 0..3);
    let path = prop_oneof![Just("/"), Just("/x"), Just("/:a"), Just("/:b"), Just("/x/*")];
    let method = prop_oneof![Just("ANY"), Just("GET")];
    let routes = proptest::collection::vec((method, path, 0..3_usize, 0..2_u32), 0..5);
    let topics = proptest::collection::btree_map("[ab]", (any::<bool>(), 0..2_u8), 0..3);
    let triggers = proptest::collection::btree_map("[xy]", (0..3_usize, 1..3_u32, any::<bool>()), 0..3);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    for _ in 0..25 {
        let any_app = (&scripts, &routes, &topics, &triggers);
        let (scripts, routes, topics, triggers) = any_app.new_tree(&mut runner).unwrap().current();
        let names: Vec<_> = scripts.keys().cloned().collect();
        let shape = |path: &str| path.replace(":b", ":a");
        let mut seen = BTreeSet::new();
        let routes: Vec<_> = routes
            .into_iter()
            .filter(|(method, path, ..)| !names.is_empty() && seen.insert((*method, shape(path))))
            .map(|(method, path, at, limit)| {
                let script = &names[at % names.len()];
                json!({ "method": method, "path": path, "script": script, "body_limit_bytes": limit })
            })
            .collect();
        let scripts: serde_json::Map<_, _> = scripts
            .into_iter()
            .map(|(name, (source, fuel, text))| {
                let script = json!({
                    "source": format!("{source}"), "limits": { "fuel": fuel }, "description": format!("{text}"),
                });
                (name, script)
            })
            .collect();
        let topics: Vec<_> = topics
            .into_iter()
            .map(|(name, (external, text))| {
                json!({ "name": name, "external": external, "description": format!("{text}") })
            })
            .collect();
        let triggers: Vec<_> = triggers
            .into_iter()
            .filter(|_| !names.is_empty())
            .map(|(name, (at, attempts, enabled))| {
                let script = &names[at % names.len()];
                let config = json!({ "topic": format!("{name}.*") });
                json!({ "name": name, "kind": "pubsub", "script": script, "config": config,
                        "retry": { "max_attempts": attempts }, "enabled": enabled })
            })
            .collect();
        let manifest =
            json!({ "scripts": scripts, "routes": routes, "topics": topics, "triggers": triggers });
        let planned = lines(&plan(&api, &manifest).await);
        assert_eq!(lines(&apply(&api, &manifest).await), planned, "{manifest}");
        assert_eq!(lines(&apply(&api, &manifest).await), [""; 0], "{manifest}");
        for part in ["routes", "topics", "triggers"] {
            let kept = api.all_pages(&format!("/apps/blog/{part}"), 50).await;
            assert_eq!(kept.len(), manifest[part].as_array().unwrap().len(), "{part} of {manifest}");
        }
        let exported = api.get("/apps/blog/manifest").await.is(200).clone();
        assert_eq!(lines(&apply(&api, &exported).await), [""; 0], "{exported}");
    }
}
