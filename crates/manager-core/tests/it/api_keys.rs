use serde_json::{Value, json};

use crate::harness::TestApi;

async fn key(api: &TestApi, body: Value) -> (TestApi, String) {
    let made = api.post("/api-keys", body).await;
    let token = made.is(201)["key"].as_str().unwrap().to_owned();
    (api.with_token(token), made.json["id"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_key_is_shown_once_works_as_a_bearer_and_ends_when_removed() {
    let api = TestApi::start().await;
    let (ci, id) = key(&api, json!({ "name": "ci", "scopes": ["app:write", "app:write"] })).await;
    assert!(ci.token.starts_with("pic_"));
    let me = ci.get("/auth/me").await;
    assert_eq!((&me.is(200)["username"], &me.json["credential"]), (&json!("ada"), &json!("api_key")));
    ci.deploy("default", "hello", "2").await.is(200);
    let by = api.get("/audit?action=script.deploy").await;
    assert_eq!(by.is(200)["items"][0]["credential"], format!("key {id} ci"));

    let listed = api.get("/api-keys").await;
    let shown = &listed.is(200)["items"][0];
    assert_eq!((&shown["id"], &shown["scopes"]), (&json!(id), &json!(["app:write"])));
    assert!(shown["last_used_at"].is_string() && ci.token.starts_with(shown["hint"].as_str().unwrap()));
    assert!(!listed.text.contains(&ci.token) && shown.get("secret_hash").is_none());

    assert_eq!(api.call("DELETE", &format!("/api-keys/{id}"), None).await.status, 204);
    ci.get("/auth/me").await.is_problem("unauthenticated");
    api.call("DELETE", &format!("/api-keys/{id}"), None).await.is_problem("not_found");
}

#[tokio::test]
async fn a_key_does_only_what_its_scopes_say() {
    let api = TestApi::start().await;
    let (reader, _) = key(&api, json!({ "name": "reader", "scopes": ["app:read"] })).await;
    reader.get("/apps/default").await.is(200);
    let refused = reader.deploy("default", "hello", "2").await;
    assert_eq!(refused.is_problem("forbidden")["rule"], "key_scope");
    assert_eq!(refused.json["remedy"], "make a key with the scope app:write or app:admin");
    let (full, _) = key(
        &api,
        json!({ "name": "full", "scopes": ["app:read", "app:write", "app:admin", "instance:admin"] }),
    )
    .await;
    for (method, path) in [("GET", "/api-keys"), ("POST", "/api-keys"), ("POST", "/auth/logout")] {
        let refused = full.call(method, path, Some(json!({}))).await;
        assert_eq!(refused.is_problem("forbidden")["rule"], "session_only", "{method} {path}");
    }
}

#[tokio::test]
async fn a_key_of_one_app_knows_of_no_other() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "blog" })).await.is(201);
    let (bound, _) = key(&api, json!({ "name": "b", "scopes": ["app:admin"], "app": "blog" })).await;
    bound.get("/apps/blog").await.is(200);
    bound.get("/apps/default").await.is_problem("not_found");
    let listed = bound.get("/apps").await;
    let slugs: Vec<_> = listed.is(200)["items"].as_array().unwrap().iter().map(|app| &app["slug"]).collect();
    assert_eq!(slugs, ["blog"]);
    bound.post("/apps", json!({ "slug": "c" })).await.is_problem("forbidden");
    // The app takes its keys with it.
    assert_eq!(api.call("DELETE", "/apps/blog", None).await.status, 204);
    bound.get("/apps/default").await.is_problem("unauthenticated");
}

#[tokio::test]
async fn a_key_ends_with_its_time_its_person_and_their_rights() {
    let api = TestApi::start().await;
    let (short, _) = key(&api, json!({ "name": "s", "scopes": ["app:read"], "expires_in_s": 3600 })).await;
    short.get("/auth/me").await.is(200);
    api.database.execute("update api_keys set expires_at = now() - interval '1 second'").await;
    short.get("/auth/me").await.is_problem("unauthenticated");

    let bob = api.person("bob", "admin").await;
    let (of_bob, _) = key(&bob, json!({ "name": "k", "scopes": ["app:read"] })).await;
    of_bob.get("/apps/default").await.is(200);
    api.database.execute("update users set role = 'member' where username = 'bob'").await;
    of_bob.get("/apps/default").await.is_problem("not_found");
    api.database.execute("update users set disabled_at = now() where username = 'bob'").await;
    of_bob.get("/auth/me").await.is_problem("unauthenticated");
}

#[tokio::test]
async fn a_key_nobody_could_use_is_refused() {
    let api = TestApi::start().await;
    for (field, body) in [
        ("name", json!({ "name": " ", "scopes": ["app:read"] })),
        ("scopes", json!({ "name": "k", "scopes": [] })),
        ("scopes[0]", json!({ "name": "k", "scopes": ["app:everything"] })),
        ("scopes", json!({ "name": "k", "scopes": ["app:read", "instance:admin"], "app": "default" })),
        ("expires_in_s", json!({ "name": "k", "scopes": ["app:read"], "expires_in_s": 0 })),
    ] {
        assert_eq!(api.post("/api-keys", body).await.is_problem("invalid_input")["field"], field);
    }
    let bob = api.person("bob", "member").await;
    let foreign = json!({ "name": "k", "scopes": ["app:read"], "app": "default" });
    bob.post("/api-keys", foreign).await.is_problem("not_found");
}

#[tokio::test]
async fn a_key_that_cannot_be_checked_is_503_and_never_a_stranger() {
    let api = TestApi::start().await;
    let (ci, _) = key(&api, json!({ "name": "ci", "scopes": ["app:read"] })).await;
    api.manager.close().await;
    ci.get("/apps").await.is_problem("unavailable");
}
