use serde_json::{Value, json};
use shared::limits::ROUTES_MAX;

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
            json!({ "path": "/x", "script": "hello", "dispatch_mode": "later" }),
            "dispatch_mode",
            "sync, durable or async",
        ),
        (
            json!({ "path": "/x", "script": "hello", "host": "a.example" }),
            "host",
            "has not claimed a.example",
        ),
        (json!({ "path": "/x", "script": "hello", "host": "a b" }), "host", "a host is a name"),
        (json!({ "path": "/x", "script": "hello", "auth": "password" }), "auth", "none, api_key or user"),
        (json!({ "path": "/x", "script": "hello", "cors": { "origins": [] } }), "cors", "origins is empty"),
        (
            json!({ "path": "/x", "script": "hello", "rate_limit": { "requests": 0, "per_s": 1 } }),
            "rate_limit",
            "requests may be 1",
        ),
        (json!({ "path": "/x", "script": "hello", "cache_control": "" }), "cache_control", "printable"),
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

#[tokio::test]
async fn a_policy_is_changed_field_by_field_and_taken_away_by_null() {
    let api = TestApi::start().await;
    let policy = json!({
        "path": "/p", "script": "hello", "auth": "api_key", "cache_control": "no-store",
        "cors": { "origins": ["https://a.example"] }, "rate_limit": { "requests": 5, "per_s": 60 },
    });
    let made = create(&api, policy).await;
    let path = format!("/apps/default/routes/{}", made.is(201)["id"].as_str().unwrap());
    assert_eq!(made.json["rate_limit"], json!({ "requests": 5, "per_s": 60, "by": "client" }));
    let change = json!({ "cors": null, "rate_limit": { "requests": 6, "per_s": 60, "by": "route" } });
    let changed = api.call("PATCH", &path, Some(change)).await;
    let changed = changed.is(200);
    assert_eq!((&changed["auth"], &changed["cache_control"]), (&"api_key".into(), &"no-store".into()));
    assert_eq!((&changed["cors"], &changed["rate_limit"]["by"]), (&Value::Null, &"route".into()));
    let table = api.manager.routes().current();
    let route = table.apps[0].routes.iter().find(|route| route.pattern.to_string() == "/p").unwrap();
    assert_eq!(route.policy.rate_limit.unwrap().requests, 6);
}

#[tokio::test]
async fn routes_for_hosts_are_for_hosts_that_the_app_has_claimed() {
    let api = TestApi::start().await;
    let on = |host: &str| json!({ "path": "/x", "script": "hello", "host": host });
    create(&api, on("default.localhost")).await.is(201);
    api.call("PATCH", "/apps/default", Some(json!({ "slug": "first" }))).await.is(200);
    let hosts = api.get("/apps/first/routes").await.is(200).to_string();
    assert!(hosts.contains("\"first.localhost\"") && !hosts.contains("default.localhost"), "{hosts}");
    api.call("PATCH", "/apps/first", Some(json!({ "slug": "default" }))).await.is(200);
    let claim = api.post("/apps/default/domains", json!({ "domain": "*.example.com" })).await;
    let claim = format!("/apps/default/domains/{}", claim.is(201)["id"].as_str().unwrap());
    for host in ["*.example.com", "shop.example.com", "{tenant}.shop.example.com"] {
        assert_eq!(create(&api, on(host)).await.is(201)["host"], host);
    }
    let clash = create(&api, on("*.shop.example.com")).await;
    assert_eq!(clash.is_problem("conflict")["route"]["host"], "{tenant}.shop.example.com");
    create(&api, on("example.com")).await.is_problem("invalid_input");

    let refused = api.call("DELETE", &claim, None).await;
    assert_eq!(refused.is_problem("conflict")["routes"].as_array().unwrap().len(), 3);
    assert_eq!(api.call("DELETE", &format!("{claim}?force=true"), None).await.status, 204);
    assert_eq!(api.all_pages("/apps/default/routes", 50).await.len(), 3);
}

#[tokio::test]
async fn a_match_tells_what_each_route_says_and_why_it_lost() {
    let api = TestApi::start().await;
    for (method, path) in [("GET", "/u/me"), ("ANY", "/u/:id"), ("POST", "/u/:id"), ("ANY", "/u/*")] {
        create(&api, json!({ "method": method, "path": path, "script": "hello" })).await.is(201);
    }
    let ask = async |question: Value| api.post("/apps/default/routes:match", question).await.is(200).clone();
    let verdicts = |answer: &Value| -> Vec<String> {
        let routes = answer["considered"].as_array().unwrap().iter();
        routes.map(|r| format!("{} {} {}", r["method"], r["path"], r["verdict"]).replace('"', "")).collect()
    };

    let answer = ask(json!({ "method": "POST", "path": "/u/me?x=1" })).await;
    assert_eq!((&answer["outcome"], &answer["matched"]["script"]), (&"script".into(), &"hello".into()));
    assert_eq!(answer["matched"]["params"], json!({ "id": "me" }));
    let expected = [
        "GET /u/me other_method",
        "ANY / other_path",
        "POST /u/:id answers",
        "ANY /u/:id outranked",
        "ANY /hello/:name other_path",
        "ANY /u/* outranked",
    ];
    let mut told = verdicts(&answer);
    assert_eq!(told.remove(0), expected[0]);
    told.sort();
    let mut rest = expected[1..].to_vec();
    rest.sort_unstable();
    assert_eq!(told, rest);
    let reasons = answer["considered"].to_string();
    for reason in ["it answers GET, not POST", "it names the method", "its path is more specific"] {
        assert!(reasons.contains(reason), "{reason}: {reasons}");
    }

    for (question, outcome) in [
        (json!({ "url": "http://localhost:8080/nothing" }), "no_route"),
        (json!({ "url": "http://nobody.localhost/" }), "unknown_host"),
        (json!({ "path": "/api/v1" }), "platform"),
    ] {
        let answer = ask(question).await;
        assert_eq!((&answer["outcome"], &answer["matched"]), (&outcome.into(), &Value::Null));
    }
    create(&api, json!({ "method": "PUT", "path": "/put", "script": "hello" })).await.is(201);
    let answer = ask(json!({ "path": "/put" })).await;
    assert_eq!((&answer["outcome"], &answer["allow"]), (&"method_not_allowed".into(), &json!(["PUT"])));
    for wrong in
        [json!({}), json!({ "path": "x" }), json!({ "url": "x/y" }), json!({ "url": "/", "path": "/" })]
    {
        api.post("/apps/default/routes:match", wrong).await.is_problem("invalid_input");
    }
}

#[tokio::test]
async fn an_app_has_no_more_routes_than_a_manifest_of_it() {
    let api = TestApi::start().await;
    api.database
        .execute(&format!(
            "insert into routes (app_id, id, method, path, shape, script_id, body_bytes_max, host, host_shape, policy,
                                 dispatch_mode)
             select r.app_id, gen_random_uuid(), 'GET', '/filler/' || n, '/filler/' || n, r.script_id,
                    r.body_bytes_max, r.host, r.host_shape, r.policy, r.dispatch_mode
             from (select * from routes where path = '/') r, generate_series(1, {}) n",
            // Two are there.
            ROUTES_MAX - 3
        ))
        .await;
    let last = create(&api, json!({ "path": "/last", "script": "hello" })).await;
    let last = format!("/apps/default/routes/{}", last.is(201)["id"].as_str().unwrap());
    let refused = create(&api, json!({ "path": "/beyond", "script": "hello" })).await;
    let detail = refused.is_problem("conflict")["detail"].as_str().unwrap();
    assert!(detail.contains("10000 routes") && detail.contains("remove some first"), "{detail}");
    api.call("PATCH", &last, Some(json!({ "path": "/other" }))).await.is(200);
    assert_eq!(api.call("DELETE", &last, None).await.status, 204);
    create(&api, json!({ "path": "/beyond", "script": "hello" })).await.is(201);
}
