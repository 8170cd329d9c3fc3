//! Budgets, as the app's users meet them.

use serde_json::{Value, json};

use crate::harness::{Canary, NO_LIMITS, TestApp, TestServer, print_row};

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

#[test]
fn attack_62_burning_fuel_until_the_deadline_does_not_dodge_the_budget() {
    let server = TestServer::shared();
    let (app, canary) = (server.app(), Canary::beside(&server));
    let limits = json!({ "fuel": 300_000_000_000_u64, "timeout_ms": 300 });
    let sources = [
        ("loop", "loop {}"),
        // One operation copies twelve megabytes: few operations, much work.
        ("copy", "let b = blob(12000000, 1); loop { let c = b; c[0] = 2; }"),
    ];
    for (name, source) in sources {
        app.serve(name, source, &limits);
        let burn = || {
            let before = fuel_of(&app);
            app.get(&format!("/{name}")).is(504).is_problem("timeout");
            fuel_of(&app) - before
        };
        // The deadline comes as soon when others keep the processor busy: then there is less to charge.
        let mut burnt = Vec::new();
        while burnt.len() < 5 && burnt.last().is_none_or(|fuel| *fuel <= 300_000_000) {
            burnt.push(burn());
        }
        print_row("62", name, "300,000,000 of fuel and more, once in five", &format!("{burnt:?}"));
        assert!(burnt.iter().all(|fuel| *fuel > 30_000_000), "{name} was charged {burnt:?}");
        assert!(burnt.iter().any(|fuel| *fuel > 300_000_000), "{name} was charged {burnt:?}");
    }
    app.admin("PUT", "/budgets", &json!({ "fuel_per_day": 1_000 })).is(200);
    let refused = app.get("/loop");
    print_row("62", "a budget that is spent", "429 budget_exhausted", &refused.status.to_string());
    refused.is(429).is_problem("budget_exhausted");
    canary.release("62");
}

fn fuel_of(app: &TestApp<'_>) -> i64 {
    app.admin("GET", "/usage", &Value::Null).is(200).json()["today"]["fuel"].as_i64().unwrap()
}
