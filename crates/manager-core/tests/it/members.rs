use axum::body::Body;
use http::Request;
use serde_json::json;

use crate::harness::TestApi;

#[tokio::test]
async fn a_member_sees_their_apps_and_does_what_their_role_allows() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "blog" })).await.is(201);
    let bob = api.person("bob", "member").await;
    assert_eq!(bob.get("/apps").await.is(200)["items"], json!([]));
    bob.get("/apps/blog").await.is_problem("not_found");

    let added = api.post("/apps/blog/members", json!({ "user": "BOB", "role": "viewer" })).await;
    assert_eq!((&added.is(201)["username"], &added.json["role"]), (&"bob".into(), &"viewer".into()));
    let seen = bob.get("/apps").await;
    assert_eq!(seen.is(200)["items"].as_array().unwrap().len(), 1);
    let app = bob.get("/apps/blog").await;
    assert_eq!(app.is(200)["my_role"], "viewer");
    assert_eq!(app.json["my_capabilities"], json!(["read_app", "read_data"]));
    let refused = bob.deploy("blog", "hello", "1").await;
    assert_eq!(refused.is_problem("forbidden")["rule"], "app_role");
    assert_eq!(refused.json["remedy"], "give bob the role editor on the app");

    let raised = api.call("PATCH", "/apps/blog/members/bob", Some(json!({ "role": "editor" }))).await;
    assert_eq!(raised.is(200)["role"], "editor");
    bob.deploy("blog", "hello", "1").await.is(201);
    bob.post("/apps/blog/members", json!({ "user": "bob", "role": "app_admin" }))
        .await
        .is_problem("forbidden");

    let names: Vec<_> =
        api.all_pages("/apps/blog/members", 1).await.iter().map(|m| m["username"].clone()).collect();
    assert_eq!(names, ["ada", "bob"]);
    assert_eq!(api.call("DELETE", "/apps/blog/members/bob", None).await.status, 204);
    bob.get("/apps/blog").await.is_problem("not_found");
}

#[tokio::test]
async fn who_cannot_be_a_member_is_refused_by_name() {
    let api = TestApi::start().await;
    let add =
        async |user: &str| api.post("/apps/default/members", json!({ "user": user, "role": "viewer" })).await;
    for nobody in ["nobody", "a b", "", "0195a3a0-0000-7000-8000-000000000000"] {
        assert_eq!(add(nobody).await.is_problem("invalid_input")["field"], "user", "{nobody}");
    }
    add("ada").await.is_problem("conflict");
    api.person("eve", "member").await;
    api.database.execute("update users set disabled_at = now() where username = 'eve'").await;
    add("eve").await.is_problem("invalid_input");
    api.call("DELETE", "/apps/default/members/eve", None).await.is_problem("not_found");
}

#[tokio::test]
async fn the_last_app_admin_cannot_be_removed() {
    let api = TestApi::start().await;
    let removed = api.call("DELETE", "/apps/default/members/ada", None).await;
    assert!(removed.is_problem("conflict")["detail"].as_str().unwrap().contains(":transfer"));
    let lowered = api.call("PATCH", "/apps/default/members/ada", Some(json!({ "role": "viewer" }))).await;
    lowered.is_problem("conflict");
    // Not even by hand, in the database.
    let mut conn = api.database.connect().await;
    let by_hand = sqlx::query("delete from app_members").execute(&mut conn).await.unwrap_err();
    assert_eq!(by_hand.as_database_error().unwrap().constraint(), Some("apps_owner_fkey"));
}

#[tokio::test]
async fn a_denial_says_to_the_apps_admin_which_rule_and_what_would_change_it() {
    let api = TestApi::start().await;
    let bob = api.person("bob", "member").await;
    bob.deploy("default", "hello", "1").await.is_problem("not_found");
    let denials = api.get("/apps/default/denials").await;
    let denied = &denials.is(200)["items"][0];
    assert_eq!((&denied["username"], &denied["capability"]), (&json!("bob"), &json!("write_app")));
    assert_eq!((&denied["method"], &denied["path"]), (&json!("PUT"), &json!("/apps/default/scripts/hello")));
    assert_eq!((&denied["rule"], &denied["request_id"]), (&json!("membership"), &json!("request-1")));
    assert_eq!(denied["remedy"], "give bob the role editor on the app");
    bob.get("/apps/default/denials").await.is_problem("not_found");

    // Running a script directly is refused, and explained, the same way.
    let id = api.database.scalar::<uuid::Uuid>("select id from scripts").await;
    let request = Request::post(format!("/api/v1/execute/{id}"))
        .header("authorization", format!("Bearer {}", bob.token))
        .body(Body::empty());
    bob.send(request.unwrap()).await.is_problem("not_found");
    let denials = api.get("/apps/default/denials").await;
    assert_eq!(denials.is(200)["items"][0]["capability"], "invoke_scripts");
}
