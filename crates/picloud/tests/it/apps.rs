//! Apps seen from outside: their hosts, and what becomes of them.

use serde_json::{Value, json};

use crate::harness::{NO_LIMITS, TestServer};

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
