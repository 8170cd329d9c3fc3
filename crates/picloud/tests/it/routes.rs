//! Routes seen from outside: hosts, policies, and what `routes:match` says of them.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::harness::{NO_LIMITS, Reply, TestApp, TestServer};

fn add(app: &TestApp<'_>, route: Value) -> String {
    app.admin("POST", "/routes", &route).is(201).json()["id"].as_str().unwrap().to_owned()
}

fn send(app: &TestApp<'_>, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    app.client().send(method, &app.host, path, headers, b"")
}

#[test]
fn a_route_for_a_host_answers_there_and_the_others_fall_through() {
    let server = TestServer::shared();
    let app = server.app();
    for name in ["any", "shop", "below"] {
        app.deploy(name, &format!("`{name} ${{ctx.request.params}}`"), &NO_LIMITS);
    }
    let domain = format!("{}.example.net", app.slug);
    let claim = app.admin("POST", "/domains", &json!({ "domain": format!("*.{domain}") })).is(201).json();
    app.admin("POST", &format!("/domains/{}:waive", claim["id"].as_str().unwrap()), &Value::Null).is(200);
    add(&app, json!({ "path": "/*", "script": "any" }));
    add(&app, json!({ "path": "/cart", "script": "shop", "host": format!("shop.{domain}") }));
    add(&app, json!({ "path": "/cart", "script": "below", "host": format!("{{who}}.{domain}") }));
    let get = |host: &str, path: &str| app.client().get(host, path).is(200).json();
    assert_eq!(get(&format!("shop.{domain}"), "/cart"), "shop #{}");
    assert_eq!(get(&format!("shop.{domain}"), "/else"), "any #{}");
    assert_eq!(get(&format!("ada.{domain}"), "/cart"), "below #{\"who\": \"ada\"}");
    assert_eq!(get(&app.host, "/cart"), "any #{}");
}

#[test]
fn a_route_that_asks_for_a_key_lets_nobody_else_in_and_tells_the_script_who_calls() {
    let server = TestServer::shared();
    let [app, other] = [server.app(), server.app()];
    app.deploy(
        "who",
        "[ctx.user.name, ctx.request.headers.authorization, ctx.request.headers.cookie]",
        &NO_LIMITS,
    );
    app.deploy("nobody", "`${\"user\" in ctx}`", &NO_LIMITS);
    add(&app, json!({ "path": "/who", "script": "who", "auth": "api_key" }));
    app.route("/nobody", "nobody");
    let key = |app: &TestApp<'_>, scope: &str| {
        let body = json!({ "name": "caller", "scopes": [scope], "app": app.slug });
        server.admin("POST", "/api-keys", &body).is(201).json()["key"].as_str().unwrap().to_owned()
    };
    let call = |key: &str| send(&app, "GET", "/who", &[("authorization", &format!("Bearer {key}"))]);

    let refused = send(&app, "GET", "/who", &[]);
    refused.is(401).is_problem("unauthenticated");
    assert_eq!(refused.header("www-authenticate"), "Bearer");
    call("pic_wrong").is(401);
    call(&key(&app, "app:read")).is(403).is_problem("forbidden");
    call(&key(&other, "script:invoke")).is(403);
    // Whose app it is finds who was refused, by which rule, and what would change that.
    let denials = app.admin("GET", "/denials", &Value::Null).is(200).json();
    let rules: Vec<_> = denials["items"].as_array().unwrap().iter().map(|denied| &denied["rule"]).collect();
    assert_eq!(rules, ["key_app", "key_scope"]);
    assert!(denials["items"][1]["remedy"].as_str().unwrap().contains("script:invoke"), "{denials}");
    let session = server.bearer();
    send(&app, "GET", "/who", &[("authorization", &session)]).is(401);

    let good = call(&key(&app, "script:invoke"));
    assert_eq!(good.is(200).json(), json!(["ada", null, null]), "the script never sees the key");
    assert_eq!(app.get("/nobody").is(200).json(), "false");
}

#[test]
fn a_browser_is_told_what_the_route_allows_and_not_what_the_script_says() {
    let server = TestServer::shared();
    let app = server.app();
    let source = "#{ statusCode: 200, headers: #{ \"access-control-allow-origin\": \"*\" }, body: ctx.request.method }";
    app.deploy("open", source, &NO_LIMITS);
    let cors = json!({ "origins": ["https://app.example"], "headers": ["x-token"], "max_age_s": 60 });
    add(&app, json!({ "path": "/api-like", "script": "open", "method": "PUT", "cors": cors }));
    app.route("/plain", "open");
    let ask = |path: &str, origin: &str| {
        send(&app, "OPTIONS", path, &[("origin", origin), ("access-control-request-method", "PUT")])
    };

    let preflight = ask("/api-like", "https://app.example");
    assert_eq!(preflight.is(204).header("access-control-allow-origin"), "https://app.example");
    assert_eq!(preflight.header("access-control-allow-methods"), "PUT");
    assert_eq!(preflight.header("access-control-allow-headers"), "x-token");
    assert_eq!(ask("/api-like", "https://evil.example").header("access-control-allow-origin"), "");
    assert_eq!(ask("/plain", "https://app.example").is(200).text(), "OPTIONS", "the script answers itself");

    let put = |origin: &str| send(&app, "PUT", "/api-like", &[("origin", origin)]);
    assert_eq!(
        put("https://app.example").is(200).header("access-control-allow-origin"),
        "https://app.example"
    );
    assert_eq!(put("https://evil.example").is(200).header("access-control-allow-origin"), "");
    assert_eq!(put("https://evil.example").header("vary"), "origin");
}

#[test]
fn a_rate_limit_refuses_what_is_too_much_and_says_when_to_come_back() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("page", "1", &NO_LIMITS);
    let limit = json!({ "requests": 2, "per_s": 3_600 });
    let cors = json!({ "origins": ["*"] });
    add(&app, json!({ "path": "/page", "script": "page", "rate_limit": limit, "cors": cors }));
    app.get("/page").is(200);
    app.get("/page").is(200);
    let refused = app.get("/page");
    refused.is(429).is_problem("too_many_requests");
    let seconds: u32 = refused.header("retry-after").parse().unwrap();
    assert!((1_700..=1_800).contains(&seconds), "{seconds}");
    assert_eq!(refused.header("access-control-allow-origin"), "*", "a page can read why");
}

#[test]
fn a_route_says_how_long_its_good_answers_may_be_kept() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("page", "if ctx.request.query.bad == \"1\" { throw #{ statusCode: 404 } } 1", &NO_LIMITS);
    app.deploy(
        "own",
        "#{ statusCode: 200, headers: #{ \"cache-control\": \"private\" }, body: 1 }",
        &NO_LIMITS,
    );
    for name in ["page", "own"] {
        let path = format!("/{name}");
        add(&app, json!({ "path": path, "script": name, "cache_control": "public, max-age=60" }));
    }
    assert_eq!(app.get("/page").is(200).header("cache-control"), "public, max-age=60");
    assert_eq!(app.get("/page?bad=1").is(404).header("cache-control"), "");
    assert_eq!(app.get("/own").is(200).header("cache-control"), "private");
    assert_eq!(app.post("/page", "text/plain", b"x").is(200).header("cache-control"), "");
}

#[test]
fn a_script_that_is_switched_off_does_not_run_and_says_so() {
    let server = TestServer::shared();
    let app = server.app();
    app.serve("page", "1", &NO_LIMITS);
    assert_eq!(app.admin("POST", "/scripts/page:disable", &Value::Null).is(200).json()["is_enabled"], false);
    app.get("/page").is(503).is_problem("script_disabled");
    app.admin("POST", "/scripts/page/invoke", &json!({})).is(200);
    app.admin("POST", "/scripts/page:enable", &Value::Null).is(200);
    app.get("/page").is(200);
    let shown = app.admin("GET", "/scripts/page", &Value::Null).is(200).json();
    assert_eq!((&shown["is_enabled"], &shown["quarantined_at"]), (&json!(true), &Value::Null));
}

/// What really happens is what `routes:match` says, whatever the routes are.
#[test]
fn a_match_is_what_the_router_does() {
    let server = TestServer::shared();
    let app = server.app();
    let segment = prop_oneof![Just("a"), Just("b"), Just(":x"), Just(":y")];
    let path = (proptest::collection::vec(segment, 0..3), any::<bool>()).prop_map(|(parts, is_prefix)| {
        let parts: Vec<_> = parts.iter().map(|part| format!("/{part}")).collect();
        match (parts.concat(), is_prefix) {
            (path, true) => format!("{path}/*"),
            (path, false) if path.is_empty() => "/".to_owned(),
            (path, false) => path,
        }
    });
    let method = prop_oneof![Just("ANY"), Just("GET"), Just("PUT")];
    let routes = proptest::collection::vec((method, path), 1..12);
    let config = Config { cases: 8, failure_persistence: None, ..Config::default() };
    app.deploy("page", "`${ctx.request.params}${ctx.request.rest}`", &NO_LIMITS);
    TestRunner::new(config)
        .run(&routes, |routes| {
            let made: Vec<_> = routes
                .iter()
                .map(|(method, path)| json!({ "method": method, "path": path, "script": "page" }))
                .map(|route| app.admin("POST", "/routes", &route))
                .filter(|reply| reply.status == 201)
                .map(|reply| reply.json()["id"].as_str().unwrap().to_owned())
                .collect();
            for path in ["/", "/a", "/b", "/a/b", "/a/a", "/c/a", "/a/b/c", "/a/", "/%61"] {
                for method in ["GET", "PUT"] {
                    let question = json!({ "method": method, "path": path });
                    let told = app.admin("POST", "/routes:match", &question).is(200).json();
                    let done = send(&app, method, path, &[]);
                    let expected = match told["outcome"].as_str().unwrap() {
                        "script" => 200,
                        "no_route" => 404,
                        "method_not_allowed" => 405,
                        other => panic!("{other}"),
                    };
                    prop_assert_eq!(done.status, expected, "{} {}: {}", method, path, told);
                    if expected == 200 {
                        let told = &told["matched"];
                        let params: Vec<_> = told["params"].as_object().unwrap().iter().collect();
                        let params: Vec<_> = params.iter().map(|(k, v)| format!("{k:?}: {v}")).collect();
                        let text = format!("#{{{}}}{}", params.join(", "), told["rest"].as_str().unwrap());
                        prop_assert_eq!(done.json(), text);
                    }
                }
            }
            for id in made {
                app.admin("DELETE", &format!("/routes/{id}"), &Value::Null).is(204);
            }
            Ok(())
        })
        .unwrap();
}
