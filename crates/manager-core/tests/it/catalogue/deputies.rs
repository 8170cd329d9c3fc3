//! People who may do everything to one app, at another app's things; and people who may do less than a moment ago.

use serde_json::{Value, json};
use shared::host_call::HostOp;
use shared::host_call::secrets::SetSecret;

use super::print_row;
use crate::calls::Script;
use crate::harness::TestApi;

/// Everything of the app `default` that a stranger might have made lead to theirs.
async fn state(api: &TestApi) -> Vec<Value> {
    let mut state = Vec::new();
    for path in ["", "/manifest", "/domains", "/members", "/transfer", "/secrets", "/scripts", "/outbox"] {
        state.push(api.get(&format!("/apps/default{path}")).await.json);
    }
    state
}

/// Bob may do everything to the app `other`, and has one of everything there.
async fn admin_of_other(api: &TestApi) -> TestApi {
    let bob = api.person("bob", "member").await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    api.post("/apps/other/members", json!({ "user": "bob", "role": "app_admin" })).await.is(201);
    bob.deploy("other", "own", "1").await.is(201);
    bob
}

/// What of the other app is aimed at, and a route of one's own.
struct Things {
    /// Of the script `theirs`.
    script: String,
    claim: String,
    trigger: String,
    own_route: String,
}

/// A manifest of an app that has one script of its own, and leads another to `theirs`.
fn manifest(route: Value) -> Value {
    let trigger = json!({ "kind": "pubsub", "script": "theirs", "config": { "topic": "t" } });
    let triggers = if route.is_null() { json!([trigger]) } else { json!([]) };
    let routes = if route.is_null() { json!([]) } else { json!([route]) };
    json!({ "scripts": { "own": { "source": "1" } }, "routes": routes, "triggers": triggers })
}

/// Whatever somebody may do to their own app, aimed at the other.
fn tries(things: &Things) -> Vec<(&'static str, String, Value)> {
    let Things { script, claim, trigger, own_route: own } = things;
    let config = json!({ "topic": "t" });
    vec![
        ("POST", "/apps/other/routes".to_owned(), json!({ "path": "/x", "script": "theirs" })),
        ("POST", "/apps/other/routes".to_owned(), json!({ "path": "/x", "script": script })),
        ("POST", "/apps/other/routes".to_owned(), json!({ "path": "/x", "script": "default/theirs" })),
        ("PATCH", own.clone(), json!({ "script": "theirs" })),
        ("PATCH", own.clone(), json!({ "host": "shop.example.com" })),
        (
            "POST",
            "/apps/other/routes".to_owned(),
            json!({ "path": "/x", "script": "own", "host": "shop.example.com" }),
        ),
        (
            "POST",
            "/apps/other/routes".to_owned(),
            json!({ "path": "/x", "script": "own", "host": "default.localhost" }),
        ),
        (
            "POST",
            "/apps/other/routes".to_owned(),
            json!({ "path": "/x", "script": "own", "host": "*.localhost" }),
        ),
        (
            "POST",
            "/apps/other/triggers".to_owned(),
            json!({ "kind": "pubsub", "script": "theirs", "config": config }),
        ),
        (
            "POST",
            "/apps/other/triggers".to_owned(),
            json!({ "kind": "pubsub", "script": script, "config": config }),
        ),
        ("POST", format!("/apps/other/triggers/{trigger}:run"), json!({})),
        ("POST", format!("/apps/other/triggers/{trigger}:take-over"), json!({})),
        ("POST", format!("/apps/default/triggers/{trigger}:take-over"), json!({})),
        ("POST", "/apps/other/domains".to_owned(), json!({ "domain": "shop.example.com" })),
        ("POST", "/apps/other/domains".to_owned(), json!({ "domain": "localhost" })),
        ("POST", "/apps/other/domains".to_owned(), json!({ "domain": "*.localhost" })),
        ("POST", "/apps/other/domains".to_owned(), json!({ "domain": "{any}.localhost" })),
        ("POST", "/apps/other/domains".to_owned(), json!({ "domain": "127.0.0.1" })),
        ("POST", format!("/apps/other/domains/{claim}:waive"), Value::Null),
        ("DELETE", format!("/apps/other/domains/{claim}"), Value::Null),
        ("PUT", "/apps/other/scripts/thief".to_owned(), json!({ "source": "import \"theirs\" as t; 1" })),
        ("POST", "/apps/other/scripts/theirs/invoke".to_owned(), json!({})),
        ("POST", "/apps/other/scripts/theirs/rollback".to_owned(), json!({ "version": 1 })),
        ("POST", "/apps/other:apply".to_owned(), manifest(json!({ "path": "/x", "script": "theirs" }))),
        (
            "POST",
            "/apps/other:apply".to_owned(),
            manifest(json!({ "path": "/", "script": "own", "host": "shop.example.com" })),
        ),
        ("POST", "/apps/other:apply".to_owned(), manifest(Value::Null)),
        ("POST", "/apps/default:transfer".to_owned(), json!({ "user": "bob" })),
        ("POST", "/apps/default:assign".to_owned(), json!({ "user": "bob" })),
        ("POST", "/transfers/default:accept".to_owned(), json!({})),
        ("POST", "/apps/default/members".to_owned(), json!({ "user": "bob", "role": "viewer" })),
        ("POST", "/api-keys".to_owned(), json!({ "name": "k", "scopes": ["app:admin"], "app": "default" })),
        ("PATCH", "/apps/other".to_owned(), json!({ "slug": "default" })),
    ]
}

#[tokio::test]
async fn attack_31_an_apps_admin_at_another_apps_scripts_and_hosts() {
    let api = TestApi::start().await;
    api.deploy("default", "theirs", "1").await.is(201);
    api.call("PUT", "/apps/default/secrets/key", Some(json!({ "value": "theirs" }))).await.is(201);
    let claim = api.post("/apps/default/domains", json!({ "domain": "shop.example.com" })).await;
    let claim = claim.is(201)["id"].as_str().unwrap().to_owned();
    api.post(&format!("/apps/default/domains/{claim}:waive"), Value::Null).await.is(200);
    let trigger = json!({ "kind": "pubsub", "script": "theirs", "config": { "topic": "t" } });
    let trigger = api.post("/apps/default/triggers", trigger).await.is(201)["id"].clone();
    let trigger = trigger.as_str().unwrap().to_owned();
    let bob = admin_of_other(&api).await;
    let own = bob.post("/apps/other/routes", json!({ "path": "/own", "script": "own" })).await;
    let own = format!("/apps/other/routes/{}", own.is(201)["id"].as_str().unwrap());
    let before = state(&api).await;
    let id: uuid::Uuid = api.database.scalar("select id from scripts where name = 'theirs'").await;
    let things = Things { script: id.to_string(), claim, trigger, own_route: own };
    for (method, path, body) in tries(&things) {
        let body = Some(body).filter(|body| !body.is_null());
        let reply = bob.call(method, &path, body.clone()).await;
        print_row("31", &format!("{method} {path}"), "403, 404, 409, 422", reply.status.as_str());
        let is_refused = matches!(reply.status.as_u16(), 403 | 404 | 409 | 422);
        assert!(is_refused, "{method} {path} {body:?}: {reply:?}");
        let tells = reply.text.contains("\"theirs\"") && path.starts_with("/apps/default");
        assert!(!tells, "{reply:?}");
    }
    assert_eq!(state(&api).await, before, "nothing of the other app changed");
    let table = api.manager.routes().current();
    let other = table.apps.iter().find(|app| app.slug.as_str() == "other").unwrap();
    assert!(other.domains.is_empty() && other.routes.iter().all(|route| route.target.app == other.app));
    assert_eq!(other.routes.len(), 1);
}

/// A right that is taken away is gone at the very next request, however its owner is let in.
#[tokio::test]
async fn attack_32_going_on_after_a_right_was_taken_away() {
    let api = TestApi::start().await;
    let deploy = async |who: &TestApi| who.deploy("default", "page", "1").await.status.as_u16();
    let read = async |who: &TestApi| who.get("/apps/default/scripts").await.status.as_u16();
    // How it is taken away, what reading and deploying come to from then on.
    for (number, (taken, method, path, body, reads, deploys)) in [
        ("a lower role", "PATCH", "/apps/default/members/NAME", json!({ "role": "viewer" }), 200, 403),
        ("no member", "DELETE", "/apps/default/members/NAME", Value::Null, 404, 404),
        ("disabled", "PATCH", "/users/NAME", json!({ "disabled": true }), 401, 401),
        ("removed", "DELETE", "/users/NAME", Value::Null, 401, 401),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("user-{number}");
        let session = api.person(&name, "member").await;
        api.post("/apps/default/members", json!({ "user": name, "role": "editor" })).await.is(201);
        let key = json!({ "name": "ci", "scopes": ["app:read", "app:write"] });
        let key = session.post("/api-keys", key).await.is(201)["key"].as_str().unwrap().to_owned();
        let key = api.with_token(key);
        let id = session.get("/auth/me").await.is(200)["id"].as_str().unwrap().parse().unwrap();
        let script = Script::of(&api, "default").await.on_behalf_of(id);
        let set = SetSecret { name: "key", value: "as they like" };
        for who in [&session, &key] {
            assert_eq!((read(who).await, deploy(who).await / 100), (200, 2), "{taken}");
        }
        let may_set = script.call(HostOp::SecretsSet, &set).await;
        let body = Some(body).filter(|body| !body.is_null());
        let done = api.call(method, &path.replace("NAME", &name), body).await;
        assert!(done.status.is_success(), "{taken}: {done:?}");
        for (name, who) in [("session", &session), ("key", &key)] {
            let seen = (read(who).await, deploy(who).await);
            let expected = format!("reads {reads}, deploys {deploys}");
            print_row("32", &format!("{taken}, by {name}"), &expected, &format!("{seen:?}"));
            assert_eq!(seen, (reads, deploys), "{taken}");
        }
        // The same for a script that runs for them, as it goes on.
        assert!(may_set.is_ok(), "{taken}");
        let code = script.call(HostOp::SecretsSet, &set).await.unwrap_err();
        print_row("32", &format!("{taken}, by a script"), "forbidden", &code);
        assert_eq!(code, "forbidden", "{taken}");
    }
}

#[tokio::test]
async fn attack_32_going_on_with_a_credential_that_was_ended() {
    let api = TestApi::start().await;
    let password = "a long enough pass phrase 17";
    let made = api.post("/users", json!({ "username": "eve", "password": password })).await;
    made.is(201);
    let log_in = async || {
        let token = api.login("eve", password, None).await.is(200)["token"].as_str().unwrap().to_owned();
        api.with_token(token)
    };
    let (first, second, third) = (log_in().await, log_in().await, log_in().await);
    let key = json!({ "name": "ci", "scopes": ["app:read"] });
    let made = first.post("/api-keys", key).await;
    let (id, key) = (made.is(201)["id"].clone(), made.json["key"].as_str().unwrap().to_owned());
    let key = api.with_token(key);
    let is_in = async |who: &TestApi| who.get("/auth/me").await.status == 200;
    let is_out = async |name: &str, who: &TestApi| {
        let status = who.get("/auth/me").await.status;
        print_row("32", name, "401", status.as_str());
        status == 401
    };
    assert!(is_in(&first).await && is_in(&second).await && is_in(&third).await && is_in(&key).await);

    first.call("DELETE", &format!("/api-keys/{}", id.as_str().unwrap()), None).await.is(204);
    assert!(is_out("a key that was removed", &key).await);
    second.post("/auth/logout", json!({})).await;
    assert!(is_out("a session that was ended", &second).await && is_in(&first).await);
    first.call("DELETE", "/auth/sessions?keep_current=true", None).await;
    assert!(is_out("a session ended by another", &third).await && is_in(&first).await);
    let again = log_in().await;
    let change = json!({ "password": "another long pass phrase 18" });
    api.call("PATCH", "/users/eve", Some(change)).await.is(200);
    for before in [&first, &again] {
        assert!(is_out("a session of before another password", before).await);
    }
}
