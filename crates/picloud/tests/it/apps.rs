//! Apps seen from outside: their hosts, and what becomes of them.

use serde_json::{Value, json};

use crate::harness::{NO_LIMITS, TestServer, eventually};

#[test]
fn a_renamed_apps_old_host_leads_to_the_new_one_until_the_slug_is_taken() {
    let server = TestServer::shared();
    let app = server.app();
    app.serve("page", "ctx.request.path", &NO_LIMITS);
    let new = format!("{}-new", app.slug);
    server.admin("PATCH", &format!("/apps/{}", app.slug), &json!({ "slug": new })).is(200);

    let host = format!("{}:8080", app.host);
    let moved = app.client().get(&host, "/page?a=1%2F2");
    assert_eq!(moved.is(308).header("location"), format!("//{new}.localhost:8080/page?a=1%2F2"));
    assert_eq!(moved.header("cache-control"), "no-cache");
    assert!(!moved.header("x-request-id").is_empty());
    assert_eq!(app.client().get(&format!("{new}.localhost"), "/page").is(200).json(), "/page");
    let moved = app.admin("GET", "/scripts/page", &Value::Null);
    assert_eq!(moved.is(308).header("location"), format!("/api/v1/admin/apps/{new}/scripts/page"));

    server.admin("POST", "/apps", &json!({ "slug": app.slug })).is(201);
    app.client().get(&host, "/page").is(404).is_problem("no_route");
    app.admin("GET", "/scripts/page", &Value::Null).is(404);
}

#[test]
fn an_app_is_removed_only_by_who_was_told_what_is_lost() {
    let server = TestServer::shared();
    let app = server.app();
    app.serve("page", "1", &NO_LIMITS);
    let refused = server.admin("DELETE", &format!("/apps/{}", app.slug), &Value::Null);
    let problem = refused.is(409).is_problem("conflict");
    assert_eq!((&problem["contents"]["scripts"], &problem["contents"]["routes"]), (&json!(1), &json!(1)));
    app.get("/page").is(200);
    server.admin("DELETE", &format!("/apps/{}?force=true", app.slug), &Value::Null).is(204);
    app.get("/page").is(404).is_problem("unknown_host");
}

#[test]
fn attack_a_flood_that_waits_for_workers_while_its_app_is_removed_starts_nothing() {
    // Two workers with one slot each, of which an app has half.
    let server = TestServer::start_with(&[("PICLOUD_SLOTS_PER_WORKER", "1")]);
    let app = server.app();
    let limits = json!({ "timeout_ms": 4_000, "fuel": 300_000_000_000_u64 });
    app.serve("long", "loop { }", &limits);
    let metrics = || {
        let bearer = server.bearer();
        let headers = [("authorization", bearer.as_str())];
        server.client.send("GET", "localhost", "/metrics", &headers, b"").is(200).text().to_owned()
    };
    let is_told = |line: &str| eventually(line, || metrics().lines().any(|told| told == line).then_some(()));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| app.get("/long"));
        is_told("picloud_executions_running 1");
        let second = scope.spawn(|| app.get("/long"));
        is_told("picloud_executions_queued 1");
        server.admin("DELETE", &format!("/apps/{}?force=true", app.slug), &Value::Null).is(204);
        first.join().unwrap().is(504).is_problem("timeout");
        second.join().unwrap().is(503).is_problem("unavailable");
    });
}
