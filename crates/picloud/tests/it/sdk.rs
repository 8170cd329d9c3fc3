//! What scripts can call: the reference is true, and the guest keeps its promises.

use serde_json::{Value, json};
use shared::sdk::NAMESPACES;

use crate::harness::{Canary, NO_LIMITS, TestApp, TestServer, World};

/// Runs a source once, for a person who may do everything with the app.
fn test_run(app: &TestApp<'_>, source: &str) -> Value {
    app.deploy("example", source, &NO_LIMITS);
    app.admin("POST", "/scripts/example/invoke", &json!({})).is(200).json()
}

#[test]
fn every_example_of_the_reference_is_true_in_the_real_guest() {
    // The world of the examples is on the loopback, on a port of its own.
    let server = TestServer::start_with(&[("PICLOUD_HTTP_ALLOW_PRIVATE", "127.0.0.0/8")]);
    let (app, world) = (server.app(), World::start());
    app.admin("PUT", "/egress", &json!({ "allow": null, "ports": [world.port()] })).is(200);
    let mut wrong = Vec::new();
    for function in NAMESPACES.iter().flat_map(|namespace| &namespace.functions) {
        for example in &function.examples {
            let source = example.as_test().replace("https://api.example.com", &world.url(""));
            let run = test_run(&app, &source);
            if run["status"] != 200 {
                wrong.push(format!(
                    "{}: {}\n{}",
                    function.signature,
                    run["execution"]["error"],
                    example.as_str()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn editors_read_the_reference_and_the_definition_files() {
    let server = TestServer::shared();
    let reference = server.client.get("localhost", "/api/v1/sdk.json").is(200).json();
    assert_eq!(reference["sdk_version"], shared::SDK_VERSION);
    assert_eq!(reference["namespaces"].as_array().unwrap().len(), NAMESPACES.len());
    let file = server.client.get("localhost", "/api/v1/sdk/json.d.rhai");
    file.is(200);
    assert!(String::from_utf8_lossy(&file.body).contains("module json;"));
    server.client.get("localhost", "/api/v1/sdk/nothing.d.rhai").is(404);
}

#[test]
fn chance_and_clock_are_the_executions_own() {
    let server = TestServer::shared();
    let app = server.app();
    app.serve(
        "draw",
        "[random::string(30), random::uuid(), random::shuffle([1, 2, 3, 4, 5, 6, 7, 8, 9])]",
        &NO_LIMITS,
    );
    assert_ne!(app.get("/draw").json(), app.get("/draw").json());
    app.serve(
        "clock",
        "let a = time::now(); let n = 0; while n < 10000 { n += 1; } a == time::now()",
        &NO_LIMITS,
    );
    assert_eq!(app.get("/clock").json(), true);
}

/// Each of these takes exponential time, or memory, in a backtracking engine.
#[test]
fn attack_08_a_regex_bomb_is_refused_or_runs_in_linear_time() {
    let server = TestServer::shared();
    let (app, canary) = (server.app(), Canary::beside(&server.client));
    for (pattern, text) in [("(a+)+$", "a"), ("(.*)*x", "a"), ("^(a|a)*$", "a"), ("(a|aa)+$", "a")] {
        let source =
            format!("let t = \"\"; t.pad(20000, \"{text}\"); t += \"!\"; regex::is_match(`{pattern}`, t)");
        let reply = app.run("bomb", &source, &NO_LIMITS);
        assert_eq!(reply.is(200).json(), false, "{pattern}");
        app.admin("DELETE", "/scripts/bomb?force=true", &Value::Null);
    }
    for pattern in ["a{1000}{1000}", "((((a{100}){100}){100}){100})", "(", "[z-a]", "\\\\p{Greek}"] {
        let run = test_run(
            &app,
            &format!("try {{ return regex::is_match(\"{pattern}\", \"a\") }} catch (e) {{ return e.code }}"),
        );
        assert_eq!(run["body"], "invalid_pattern", "{pattern}: {run}");
    }
    let long = "let p = \"\"; p.pad(1048576, \"a\"); try { return regex::find(p, \"a\") } catch (e) { return e.code }";
    assert_eq!(test_run(&app, long)["body"], "invalid_pattern");
    canary.release();
}

/// Security catalogue A7: a call that is linear in a long text burns the fuel of its work.
#[test]
fn a_search_through_a_long_text_burns_fuel_and_can_be_stopped() {
    let server = TestServer::shared();
    let app = server.app();
    let source = "let t = \"\"; t.pad(1000000, \"ab\"); loop { regex::find_all(`(a|b)*c`, t); }";
    let reply = app.run("search", source, &json!({ "fuel": 500_000_000, "timeout_ms": 20_000 }));
    reply.is(507).is_problem("fuel_exhausted");
}

/// Security catalogue A10: the parser answers or refuses, within the memory of the execution.
#[test]
fn hostile_json_is_answered_or_refused() {
    let server = TestServer::shared();
    let app = server.app();
    for (text, seen) in [
        ("let t = \"\"; t.pad(100000, \"[\");", "invalid_json"),
        ("let t = `\"\\ud800\"`;", "invalid_json"),
        ("let t = \"1e999\";", "invalid_json"),
        ("let t = `{\"a\":1,\"a\":2}`;", "i64"),
        ("let t = \"\"; t.pad(10000, \"9\");", "f64"),
    ] {
        let source = format!(
            "{text} try {{ let v = json::parse(t); if type_of(v) == \"map\" {{ v = v.a; }} return type_of(v) }} \
             catch (e) {{ return e.code }}"
        );
        let body = test_run(&app, &source)["body"].clone();
        assert!(body == seen || (seen == "f64" && body == "invalid_json"), "{text}: {body}");
    }
}
