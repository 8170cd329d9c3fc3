//! Scripts that call scripts: now, later, and again.

use serde_json::{Value, json};

use crate::harness::{NO_LIMITS, TestApp, TestServer, eventually};

#[test]
fn a_script_gets_what_another_returns_and_catches_what_it_throws() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("double", "ctx.args.n * 2", &NO_LIMITS);
    app.deploy("text", r#""plain " + ctx.invocation_type"#, &NO_LIMITS);
    app.deploy("missing", r#"throw #{ statusCode: 404, body: "gone" };"#, &NO_LIMITS);
    app.deploy("broken", r#"throw "broken";"#, &NO_LIMITS);
    let source = r#"
        let seen = [invoke("double", #{ n: 21 }), invoke("text")];
        for name in ["missing", "broken", "nobody"] {
            try { invoke(name, ()); } catch (error) { seen.push([error.code, error?.status]); }
        }
        seen"#;
    let expected =
        json!([42, "plain function", ["script_failed", 404], ["script_failed", null], ["not_found", null],]);
    assert_eq!(app.run("caller", source, &NO_LIMITS).is(200).json(), expected);
}

#[test]
fn calls_are_counted_in_depth_and_end() {
    let server = TestServer::shared();
    let app = server.app();
    let source = r#"
        let depth = ctx.trigger_depth;
        try { depth = invoke("loop"); } catch (error) { if error.code != "budget_exhausted" { throw error } }
        depth"#;
    let reply = app.run("loop", source, &NO_LIMITS);
    assert_eq!(reply.is(200).json(), json!(8));
}

#[test]
fn a_called_script_has_no_more_time_than_its_caller() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("slow", "loop { }", &json!({ "timeout_ms": 20_000, "fuel": 100_000_000_000_u64 }));
    let limits = json!({ "timeout_ms": 1_000, "fuel": 100_000_000_000_u64 });
    let reply = app.run("caller", r#"invoke("slow")"#, &limits);
    assert!(matches!(reply.status, 500 | 504), "{reply:?}");
}

/// Of two slots one is for makers, and the caller has the other.
#[test]
fn callers_that_hold_every_slot_call_into_workers_that_are_made_for_it() {
    let server = TestServer::start_with(&[
        ("PICLOUD_SLOTS_PER_WORKER", "2"),
        ("PICLOUD_WORKERS", "1"),
        ("PICLOUD_WORKERS_MAX", "12"),
    ]);
    let app = server.app();
    app.deploy("leaf", "1", &NO_LIMITS);
    let source = r#"let seen = (); try { seen = invoke("leaf"); } catch (error) { seen = error.code; } seen"#;
    app.serve("caller", source, &NO_LIMITS);
    let replies: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| app.get("/caller"))).collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for reply in replies {
        assert_eq!(reply.is(200).json(), json!(1));
    }
    let source = r#"
        let depth = ctx.trigger_depth;
        try { depth = invoke("chain"); } catch (error) { depth = [depth, error.code]; }
        depth"#;
    app.serve("chain", source, &NO_LIMITS);
    assert_eq!(app.get("/chain").is(200).json(), json!([8, "budget_exhausted"]), "as deep as anywhere");
}

#[test]
fn a_later_call_runs_after_its_caller_and_knows_its_arguments() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("job", r#"log::info("job", #{ args: ctx.args, caller: ctx.event.function.caller, delivery: ctx.delivery });"#, &NO_LIMITS);
    let id = app.run("caller", r#"invoke_async("job", [1, 2], #{ delay: 0.05 })"#, &NO_LIMITS).is(200).json();
    let run = eventually("the job ran", || {
        let list = app.admin("GET", "/executions?script=job", &Value::Null).is(200).json();
        list["items"].as_array().unwrap().first().cloned()
    });
    let path = format!("/executions/{}", run["id"].as_str().unwrap());
    let data = app.admin("GET", &path, &Value::Null).is(200).json()["logs"][0]["data"].clone();
    assert_eq!((&data["args"], &data["caller"]), (&json!([1, 2]), &json!("caller")));
    assert_eq!(data["delivery"]["id"], id);
}

#[test]
fn a_function_is_tried_again_until_it_does_not_throw_or_says_stop() {
    let server = TestServer::shared();
    let app = server.app();
    let source = r#"
        let tries = 0;
        let value = retry::run(#{ attempts: 4, base: 0.001 }, || { tries += 1; if tries < 3 { throw "no" } tries });
        let stopped = 0;
        let why = "";
        try { retry::run(#{ base: 0.001 }, || { stopped += 1; throw retry::fatal("never"); }) } catch (e) { why = e.message; }
        let given_up = 0;
        try { retry::run(#{ attempts: 2, backoff: "fixed", base: 0.001 }, || { given_up += 1; throw "no" }) } catch { }
        [value, stopped, why, given_up]"#;
    assert_eq!(app.run("retry", source, &NO_LIMITS).is(200).json(), json!([3, 1, "never", 2]));
}

/// How often a function is tried, and the code of what is thrown in the end.
fn tried(app: &TestApp<'_>, options: &str, function: &str) -> Value {
    let source = format!(
        "let tries = 0; try {{ retry::run(#{{ {options} }}, || {{ tries += 1; {function} }}) }} \
         catch (error) {{ return [tries, error.code] }}"
    );
    app.deploy("retry", &source, &NO_LIMITS);
    app.admin("POST", "/scripts/retry/invoke", &json!({})).is(200).json()["body"].clone()
}

#[test]
fn a_function_is_tried_again_only_where_that_can_help() {
    let server = TestServer::shared();
    let app = server.app();
    for (function, tries, code) in [
        ("kv::collection(\"\").get(\"k\")", 1, "invalid_argument"),
        ("let s = \"\"; s.pad(70000, \"x\"); kv::collection(\"c\").set(\"k\", s)", 1, "too_large"),
        ("http::get(\"http://192.168.0.1/\")", 1, "forbidden"),
        ("throw #{ code: \"refused\" }", 1, "refused"),
        ("throw #{ code: \"not_configured\" }", 1, "not_configured"),
        ("throw #{ code: \"unavailable\", retry: false }", 1, "unavailable"),
        ("throw #{ code: \"forbidden\", retry: true }", 3, "forbidden"),
        ("kv::collection(\"c\").set_with(\"k\", 1, #{ if_version: 1 })", 3, "conflict"),
        ("json::parse(\"{\")", 3, "invalid_json"),
        ("throw #{ code: \"unavailable\" }", 3, "unavailable"),
        // Requests at once and statements that wait end in it too.
        ("throw #{ code: \"budget_exhausted\" }", 3, "budget_exhausted"),
        // A pause is a call as well.
        ("let c = kv::collection(\"c\"); loop { c.get(\"k\"); }", 1, "budget_exhausted"),
    ] {
        assert_eq!(tried(&app, "base: 0.001", function), json!([tries, code]), "{function}");
    }
}

#[test]
fn the_functions_own_error_is_thrown_where_no_pause_fits_into_the_time_left() {
    let server = TestServer::shared();
    let app = server.app();
    let seen = tried(&app, "base: 600, cap: 600", "throw #{ code: \"busy\" }");
    assert_eq!(seen, json!([1, "busy"]));
}

#[test]
fn dead_letters_are_forbidden_to_a_script_that_runs_on_behalf_of_nobody() {
    let server = TestServer::shared();
    let app = server.app();
    let source = r#"let seen = (); try { dead_letters::list(); } catch (error) { seen = error.code; } seen"#;
    assert_eq!(app.run("public", source, &NO_LIMITS).is(200).json(), "forbidden");
    let denials = app.admin("GET", "/denials", &Value::Null).is(200).json();
    let denied = &denials["items"][0];
    assert_eq!((&denied["username"], &denied["path"]), (&Value::Null, &json!("the script public")));
    assert_eq!((&denied["rule"], &denied["capability"]), (&json!("nobody_logged_in"), &json!("write_app")));
    assert!(denied["remedy"].as_str().unwrap().contains("auth: api_key"), "{denied}");
    // A trigger runs on behalf of who registered it.
    app.deploy("fails", r#"throw retry::fatal("no");"#, &NO_LIMITS);
    app.deploy(
        "undertaker",
        r#"
        for letter in dead_letters::list() { dead_letters::resolve(letter.id, "seen"); }
        log::info("left", dead_letters::list().len());"#,
        &NO_LIMITS,
    );
    for (kind, script, config) in
        [("pubsub", "fails", json!({ "topic": "x" })), ("dead_letter", "undertaker", json!({}))]
    {
        let body = json!({ "kind": kind, "script": script, "config": config });
        app.admin("POST", "/triggers", &body).is(201);
    }
    app.run("send", r#"pubsub::publish("x", 1)"#, &NO_LIMITS).is(200);
    let letter = eventually("the dead letter is resolved", || {
        let list = app.admin("GET", "/dead-letters", &Value::Null).is(200).json();
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|item| item["resolution"] == "handled_by_script")
            .cloned()
    });
    assert_eq!(letter["reason"], "fatal");
}
