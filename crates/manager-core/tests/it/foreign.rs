//! The wall between apps in the admin API: what is of one app is not there by way of another, not even for
//! somebody who may do everything to both.

use std::collections::{BTreeMap, BTreeSet};

use manager_core::{Permission, permissions};
use serde_json::{Value, json};
use shared::invocation::ExecutionStatus;

use crate::app_users::Account;
use crate::calls::Script;
use crate::catalogue::print_row;
use crate::harness::{TestApi, record};
use crate::outbox::eventually;

/// What these name is made when it is not there, or is the app's own by that name. Nothing of the other
/// app comes of them either.
const BY_NAME: [&str; 15] = [
    "GET /apps/{app}/kv/{collection}",
    "PUT /apps/{app}/kv/{collection}/{key}",
    "GET /apps/{app}/docs/{collection}",
    "POST /apps/{app}/docs/{collection}",
    "PUT /apps/{app}/doc-schemas/{collection}",
    "GET /apps/{app}/files/{collection}",
    "POST /apps/{app}/files/{collection}",
    "PUT /apps/{app}/secrets/{name}",
    "PUT /apps/{app}/scripts/{name}",
    "GET /apps/{app}/queues/{name}/messages",
    "POST /apps/{app}/queues/{name}/messages",
    "POST /apps/{app}/queues/{name}:pause",
    "POST /apps/{app}/queues/{name}:resume",
    "POST /apps/{app}/queues/{name}:purge",
    "POST /apps/{app}/queues/{name}:redrive",
];

/// A body with which a request would be carried out in the thing's own app.
fn body(method: &str, path: &str) -> Option<Value> {
    let resource = path.split('/').nth(3).unwrap_or_default();
    let body = match (method, resource) {
        ("GET" | "DELETE", _) => return None,
        ("PATCH", "routes") => json!({ "path": "/stolen" }),
        ("PATCH", "triggers") => json!({ "enabled": false }),
        ("PATCH", "users") => json!({ "disabled": true }),
        ("PATCH", "topics") => json!({ "external": false }),
        ("PATCH", "members") => json!({ "role": "viewer" }),
        ("PUT", "secrets" | "kv") => json!({ "value": "stolen" }),
        ("PUT", "scripts") => json!({ "source": "666" }),
        ("PUT", "doc-schemas") => json!({ "schema": { "type": "object" } }),
        (_, "files") => json!("stolen"),
        (_, "docs") => json!({ "data": { "is": "stolen" } }),
        (_, "queues") if path.ends_with("/messages") => json!({ "message": "stolen" }),
        (_, "dead-letters") if path.ends_with(":resolve") => json!({ "reason": "stolen" }),
        (_, "scripts") if path.ends_with("/rollback") => json!({ "version": 1 }),
        _ => json!({}),
    };
    Some(body)
}

/// An app that has one of everything, and how each is named in an address.
async fn foreign(api: &TestApi) -> BTreeMap<&'static str, String> {
    api.post("/apps", json!({ "slug": "foreign" })).await.is(201);
    api.person("far", "member").await;
    api.deploy("foreign", "job", "1").await.is(201);
    api.deploy("foreign", "job", "2").await.is(200);
    let make = async |path: &str, body: Value| {
        let made = api.post(&format!("/apps/foreign{path}"), body).await;
        assert!(made.status.is_success(), "{path}: {made:?}");
        made.json["id"].as_str().unwrap_or_default().to_owned()
    };
    let put = async |path: &str, body: Value| {
        let done = api.call("PUT", &format!("/apps/foreign{path}"), Some(body)).await;
        assert!(done.status.is_success(), "{path}: {done:?}");
    };
    make("/members", json!({ "user": "far", "role": "editor" })).await;
    make("/topics", json!({ "name": "news", "external": true })).await;
    make("/queues/work/messages", json!({ "message": "theirs" })).await;
    put("/secrets/token", json!({ "value": "theirs" })).await;
    put("/kv/things/one", json!({ "value": "theirs" })).await;
    put("/doc-schemas/things", json!({ "schema": { "type": "object", "title": "theirs" } })).await;
    let cron = json!({ "kind": "cron", "script": "job", "config": { "schedule": "0 3 * * *" } });
    let things = BTreeMap::from([
        ("routes", make("/routes", json!({ "path": "/", "script": "job" })).await),
        ("triggers", make("/triggers", cron).await),
        ("domains", make("/domains", json!({ "domain": "theirs.example.org" })).await),
        ("docs", make("/docs/things", json!({ "data": { "is": "theirs" } })).await),
        ("doc-indexes", doc_index(api).await),
        ("files", make("/files/things?name=theirs", json!("theirs")).await),
        ("dead-letters", dead_letter(api).await),
        ("executions", execution(api).await),
        ("users", Account::of(&Script::of(api, "foreign").await, "theirs").await.id),
        ("scripts", "1".to_owned()),
    ]);
    assert!(things.values().all(|id| !id.is_empty()), "{things:?}");
    things
}

/// An index that is built: until then it changes by itself.
async fn doc_index(api: &TestApi) -> String {
    let index = json!({ "collection": "things", "members": ["is"] });
    let made = api.post("/apps/foreign/doc-indexes", index).await;
    eventually("the index is ready", || async {
        let indexes = api.get("/apps/foreign/doc-indexes").await;
        (indexes.json["items"][0]["state"] == "ready").then_some(())
    })
    .await;
    made.is(201)["id"].as_str().unwrap_or_default().to_owned()
}

async fn dead_letter(api: &TestApi) -> String {
    let id = uuid::Uuid::now_v7();
    let insert = format!(
        "insert into dead_letters (app_id, id, delivery_id, kind, script_id, reason, attempts, errors, root_id,
                                   depth, max_attempts, base_ms, cap_ms, payload, enqueued_at)
         select app_id, '{id}', gen_random_uuid(), 'cron', id, 'fatal', 1, '[]', gen_random_uuid(), 0, 5, 1, 1, '{{}}', now()
         from scripts
         where name = 'job'"
    );
    api.database.execute(&insert).await;
    id.to_string()
}

async fn execution(api: &TestApi) -> String {
    let record = record(api.app_id("foreign").await, ExecutionStatus::Ok);
    let id = record.id.to_string();
    api.manager.recorder().record(record);
    eventually("the execution is written", || async {
        (api.get(&format!("/apps/foreign/executions/{id}")).await.status == 200).then_some(())
    })
    .await;
    id
}

/// Everything of the other app that could be seen or changed.
async fn state(api: &TestApi) -> Vec<Value> {
    let mut state = Vec::new();
    for path in [
        "manifest",
        "scripts",
        "routes",
        "triggers",
        "topics",
        "domains",
        "secrets",
        "members",
        "kv/things",
        "docs/things",
        "doc-indexes",
        "doc-schemas",
        "files/things",
        "users",
        "queues",
        "queues/work/messages",
        "dead-letters",
        "executions",
        "transfer",
    ] {
        state.push(api.get(&format!("/apps/foreign/{path}")).await.json);
    }
    state
}

fn names_a_thing(path: &str) -> bool {
    path.strip_prefix("/apps/{app}/").is_some_and(|rest| rest.contains('{'))
}

#[tokio::test]
async fn attack_24_what_is_of_another_app_is_not_there_by_way_of_ones_own() {
    let api = TestApi::start().await;
    let things = foreign(&api).await;
    let before = state(&api).await;
    let is_by_name = |endpoint: &str| BY_NAME.contains(&endpoint);
    let mut endpoints: Vec<_> =
        permissions().into_iter().filter(|permission| names_a_thing(permission.path)).collect();
    // What makes something of the name comes last, or it would be there.
    endpoints.sort_by_key(|Permission { method, path, .. }| is_by_name(&format!("{method} {path}")));
    let mut tried = BTreeSet::new();
    for Permission { method, path, .. } in endpoints {
        let resource = path.split('/').nth(3).unwrap();
        let id = things.get(resource).map_or("none", String::as_str);
        let name = match resource {
            "scripts" => "job",
            "secrets" => "token",
            "topics" => "news",
            _ => "work",
        };
        // The app `default` has a script, a route, and nothing of what is asked for here.
        let address = path
            .replace("{app}", "default")
            .replace("{collection}", "things")
            .replace("{key}", "one")
            .replace("{user}", "far")
            .replace("{name}", name)
            .replace("{id}", id);
        let endpoint = format!("{method} {path}");
        let query = if endpoint == "POST /apps/{app}/files/{collection}" { "?name=stolen" } else { "" };
        let address = address + query;
        let reply = api.call(method, &address, body(method, path)).await;
        assert!(!reply.text.contains("theirs"), "{endpoint}: {reply:?}");
        if !is_by_name(&endpoint) {
            let problem = reply.is_problem("not_found");
            assert_ne!(problem["detail"], "there is no such app", "{endpoint}");
        }
        let expected = if is_by_name(&endpoint) { "nothing of the other app" } else { "404" };
        print_row("24", &endpoint, expected, reply.status.as_str());
        tried.insert(endpoint);
    }
    assert!(tried.len() > 40, "only {} endpoints name a thing", tried.len());
    assert!(BY_NAME.iter().all(|endpoint| tried.contains(*endpoint)), "{tried:?}");
    assert_eq!(state(&api).await, before, "nothing of the other app changed");
}
