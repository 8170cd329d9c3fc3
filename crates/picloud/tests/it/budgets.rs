//! Budgets, as the app's users meet them.

use serde_json::{Value, json};

use crate::harness::{Canary, MailServer, NO_LIMITS, TestApp, TestServer, World, print_row};

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

#[test]
fn a_days_requests_are_refused_by_name_and_nothing_else_is() {
    let server = TestServer::start_with(&[("PICLOUD_HTTP_ALLOW_PRIVATE", "127.0.0.0/8")]);
    let (app, world) = (server.app(), World::start());
    app.admin("PUT", "/egress", &json!({ "allow": null, "ports": [world.port()] })).is(200);
    app.admin("PUT", "/budgets", &json!({ "requests_per_day": 2 })).is(200);
    app.serve("asks", &three_times(&format!("http::get({:?})", world.url("/echo"))), &NO_LIMITS);
    // What asks nobody is not counted.
    let tried = app.admin("POST", "/scripts/asks/invoke?dry_run=true", &json!({})).is(200).json();
    assert_eq!(tried["body"], json!(["sent", "sent", "sent"]), "{tried}");
    let share = json!([{ "name": "requests_per_day", "limit": 2, "takes": 3, "share": 1.5 }]);
    assert_eq!(tried["dry_run"]["budget"], share);
    assert_eq!(usage(&app)["today"]["requests"], 0);

    let seen = app.get("/asks").is(200).json();
    assert_eq!((&seen[0], &seen[1]), (&json!("sent"), &json!("sent")), "{seen}");
    let refused = seen[2].as_str().unwrap();
    let said = "budget_exhausted: the app has used up its budget requests_per_day of 2; it begins anew in";
    assert!(refused.starts_with(said) && refused.ends_with("at midnight (UTC)"), "{refused}");
    assert_eq!(world.requests.load(std::sync::atomic::Ordering::Relaxed), 2);
    let seen = usage(&app);
    assert_eq!((&seen["today"]["requests"], &seen["level"]), (&json!(2), &json!("warn")));
    app.get("/asks").is(200);
    app.admin("PUT", "/budgets", &json!({ "requests_per_day": 3 })).is(200);
    assert_eq!(app.get("/asks").is(200).json()[0], "sent");
}

#[test]
fn a_days_mails_are_refused_by_name_and_nothing_else_is() {
    let mail = MailServer::start();
    let settings = mail.settings();
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let server = TestServer::start_with(&settings);
    let app = server.app();
    app.admin("PUT", "/budgets", &json!({ "mails_per_day": 1 })).is(200);
    let send =
        r#"email::send(#{ to: ["ada@example.com", "bob@example.com"], subject: "Hello", text: "Hello." })"#;
    let seen = app.run("sends", &three_times(send), &NO_LIMITS).is(200).json();
    assert_eq!(seen[0], "sent", "{seen}");
    let refused = seen[1].as_str().unwrap();
    let said = "budget_exhausted: the app has used up its budget mails_per_day of 1;";
    assert!(refused.starts_with(said), "{refused}");
    mail.mails(1);
    let seen = usage(&app);
    // To two people, and one mail.
    assert_eq!((&seen["today"]["mails"], &seen["level"]), (&json!(1), &json!("warn")));
}

/// A script that does something three times, and says of each time `sent` or what it was told.
fn three_times(what: &str) -> String {
    format!(
        "let seen = []; \
         for i in 0..3 {{ \
             try {{ {what}; seen.push(\"sent\") }} catch (error) {{ seen.push(`${{error.code}}: ${{error.message}}`) }} \
         }} \
         seen"
    )
}

#[test]
fn a_script_whose_app_is_full_is_told_and_makes_room() {
    let server = TestServer::shared();
    let app = server.app();
    app.admin("PUT", "/budgets", &json!({ "data_bytes": 20_000 })).is(200);
    let source = r#"
        let values = kv::collection("c");
        let value = "";
        value.pad(1000, "x");
        let kept = 0;
        let code = ();
        try { loop { values.set(`k${kept}`, value); kept += 1; } } catch (error) { code = error.code; }
        values.delete("k0");
        values.set("again", value);
        [kept, code]
    "#;
    let seen = app.run("fills", source, &NO_LIMITS).is(200).json();
    assert_eq!(seen, json!([17, "budget_exhausted"]));
    let seen = usage(&app);
    assert!(seen["data_bytes"]["used"].as_i64().unwrap() > 17_000, "{seen}");
    assert_eq!(seen["level"], "warn");
}

#[test]
fn attack_deploys_that_burn_fuel_are_charged_and_a_frozen_app_takes_one_all_the_same() {
    let server = TestServer::shared();
    let app = server.app();
    // No other app's worker has compiled these.
    let source = |rest: &str| format!("// {}\n{rest}", app.slug);
    app.deploy("mended", &source("1"), &NO_LIMITS);
    let first = fuel_of(&app);
    assert!(first > 0);
    app.try_deploy("mended", &source("let x = ;"), &NO_LIMITS).is(422).is_problem("compile_error");
    let second = fuel_of(&app);
    assert!(second > first, "{first}, {second}");
    app.admin("PUT", "/budgets", &json!({ "frozen": true })).is(200);
    app.deploy("mended", &source("2"), &NO_LIMITS);
    assert!(fuel_of(&app) > second);
    assert_eq!(usage(&app)["today"]["executions"], 0);
}

fn usage(app: &TestApp<'_>) -> Value {
    app.admin("GET", "/usage", &Value::Null).is(200).json()
}

fn fuel_of(app: &TestApp<'_>) -> i64 {
    usage(app)["today"]["fuel"].as_i64().unwrap()
}
