//! Budgets, as the app's users meet them.

use serde_json::json;

use crate::harness::{NO_LIMITS, TestServer};

#[test]
fn an_app_that_used_up_its_budget_is_told_when_to_come_back_and_others_notice_nothing() {
    let server = TestServer::shared();
    let (app, other) = (server.app(), server.app());
    app.serve("hello", "\"hi\"", &NO_LIMITS);
    other.serve("hello", "\"hi\"", &NO_LIMITS);
    app.admin("PUT", "/budgets", &json!({ "executions_per_day": 2 })).is(200);
    app.get("/hello").is(200);
    app.get("/hello").is(200);
    let refused = app.get("/hello");
    let seconds: u32 = refused.header("retry-after").parse().unwrap();
    assert!((1..=86_400).contains(&seconds), "{seconds}");
    refused.is(429).is_problem("budget_exhausted");
    other.get("/hello").is(200);

    app.admin("PUT", "/budgets", &json!({ "frozen": true })).is(200);
    app.get("/hello").is(503).is_problem("app_frozen");
    app.admin("PUT", "/budgets", &json!({})).is(200);
    app.get("/hello").is(200);
}
