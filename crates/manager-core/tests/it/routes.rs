use serde_json::{Value, json};

use crate::harness::TestApi;

async fn create(api: &TestApi, body: Value) -> crate::harness::Reply {
    api.post("/apps/default/routes", body).await
}

#[tokio::test]
async fn a_route_is_made_changed_and_removed_and_the_router_follows() {
    let api = TestApi::start().await;
    let made = create(&api, json!({ "method": "get", "path": "/users/:id", "script": "hello" })).await;
    let id = made.is(201)["id"].as_str().unwrap().to_owned();
    assert_eq!((&made.json["method"], &made.json["host"]), (&"GET".into(), &"any".into()));
    assert_eq!((&made.json["dispatch_mode"], &made.json["script"]), (&"sync".into(), &"hello".into()));
    let find = || {
        let table = api.manager.routes().current();
        table.apps[0].routes.iter().find(|route| route.id.to_string() == id).cloned()
    };
    assert_eq!(find().unwrap().method.as_deref(), Some("GET"));

    let path = format!("/apps/default/routes/{id}");
    let change = json!({ "method": "ANY", "path": "/people/:id", "body_limit_bytes": 10 });
    let changed = api.call("PATCH", &path, Some(change)).await;
    assert_eq!((&changed.is(200)["method"], &changed.json["path"]), (&Value::Null, &"/people/:id".into()));
    let route = find().unwrap();
    assert_eq!((route.method, route.body_bytes_max), (None, 10));
    assert_eq!(api.get(&path).await.is(200)["path"], "/people/:id");

    assert_eq!(api.call("DELETE", &path, None).await.status, 204);
    assert!(find().is_none());
    api.call("DELETE", &path, None).await.is_problem("not_found");
    api.call("PATCH", &path, Some(json!({}))).await.is_problem("not_found");
}

#[tokio::test]
async fn a_route_that_answers_the_same_requests_is_a_conflict_that_shows_the_other() {
    let api = TestApi::start().await;
    let clash = create(&api, json!({ "path": "/hello/:who", "script": "hello" })).await;
    assert_eq!(clash.is_problem("conflict")["route"]["path"], "/hello/:name");
    // Another method, or another shape, is another route.
    let other = create(&api, json!({ "method": "POST", "path": "/hello/:who", "script": "hello" })).await;
    let path = format!("/apps/default/routes/{}", other.is(201)["id"].as_str().unwrap());
    let clash = api.call("PATCH", &path, Some(json!({ "method": "ANY" }))).await;
    assert_eq!(clash.is_problem("conflict")["route"]["path"], "/hello/:name");
    api.call("PATCH", &path, Some(json!({ "path": "/hello/:someone" }))).await.is(200);
}

#[tokio::test]
async fn routes_that_cannot_be_are_refused_with_the_reason() {
    let api = TestApi::start().await;
    let cases = [
        (json!({ "path": "greet", "script": "hello" }), "path", "begins with '/'"),
        (json!({ "path": "/api/x", "script": "hello" }), "path", "kept for the platform"),
        (json!({ "path": "/a b", "script": "hello" }), "path", "cannot stand in a path"),
        (json!({ "path": "/x", "script": "nobody" }), "script", "no script \"nobody\""),
        (json!({ "path": "/x" }), "script", "missing"),
        (json!({ "script": "hello" }), "path", "missing"),
        (json!({ "path": "/x", "script": "hello", "method": "G T" }), "method", "word such as GET"),
        (
            json!({ "path": "/x", "script": "hello", "dispatch_mode": "async" }),
            "dispatch_mode",
            "later release",
        ),
        (json!({ "path": "/x", "script": "hello", "host": "a.example" }), "host", "later release"),
    ];
    for (body, field, reason) in cases {
        let reply = create(&api, body).await;
        let problem = reply.is_problem("invalid_input");
        assert_eq!(problem["field"], field);
        assert!(problem["detail"].as_str().unwrap().contains(reason), "{problem}");
    }
    let big = json!({ "path": "/x", "script": "hello", "body_limit_bytes": 33_554_433 });
    assert_eq!(create(&api, big).await.is_problem("limit_out_of_range")["ceiling"], 33_554_432);
}

#[tokio::test]
async fn pages_of_routes_skip_and_repeat_nothing() {
    let api = TestApi::start().await;
    for n in 0..5 {
        create(&api, json!({ "path": format!("/r{n}"), "script": "hello" })).await.is(201);
    }
    let listed: Vec<_> = api
        .all_pages("/apps/default/routes", 2)
        .await
        .iter()
        .map(|route| route["path"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed, ["/", "/hello/:name", "/r0", "/r1", "/r2", "/r3", "/r4"]);
}

#[tokio::test]
async fn another_apps_route_is_not_there() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    let made = create(&api, json!({ "path": "/mine", "script": "hello" })).await;
    let id = made.is(201)["id"].as_str().unwrap();
    api.get(&format!("/apps/other/routes/{id}")).await.is_problem("not_found");
    api.call("DELETE", &format!("/apps/other/routes/{id}"), None).await.is_problem("not_found");
    let foreign = api.post("/apps/other/routes", json!({ "path": "/x", "script": "hello" })).await;
    assert_eq!(foreign.is_problem("invalid_input")["field"], "script");
}
