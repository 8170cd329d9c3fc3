//! What scripts ask of the platform, and what they answer.

use serde_json::json;

use super::Target;
use crate::harness::{NO_LIMITS, Reply, TestApp};

/// Bytes of a log that are kept, the last line that says so, and the form around the lines.
const KEPT_BYTES_MAX: usize = (256 << 10) + 1_000;

#[test]
fn attack_15_a_million_calls_in_a_loop() {
    let target = Target::new("15");
    let app = target.server.app();
    let calls = "let c = kv::collection(\"c\"); for i in 0..1000000 { c.get(\"k\"); }";
    target.ends_in("a million reads", &app.run("calls", calls, &NO_LIMITS), &["script_error"]);
    let deaf = "let c = kv::collection(\"c\"); loop { try { c.get(\"k\"); } catch { } }";
    target.ends_in("although refused", &app.run("deaf", deaf, &NO_LIMITS), &["script_error"]);
    target.ends_unharmed();
}

#[test]
fn attack_16_a_flood_of_long_log_lines() {
    let target = Target::new("16");
    let app = target.server.app();
    let source = "let s = \"\"; s.pad(1048576, 'x'); for i in 0..10000 { log::info(s); } \"done\"";
    let limits = json!({ "fuel": 300_000_000_000_u64, "timeout_ms": 20_000 });
    let reply = app.run("flood", source, &limits);
    target.answers("10,000 lines of 1 MiB", &reply, &[200, 504, 507]);
    let logs = app.execution_of(&reply)["logs"].clone();
    let kept = logs.to_string().len();
    target.row("bytes of the log kept", &format!("at most {KEPT_BYTES_MAX}"), &kept.to_string());
    assert!(kept <= KEPT_BYTES_MAX, "{kept}");
    let last = &logs.as_array().unwrap().last().unwrap()["message"];
    assert!(last.as_str().unwrap().starts_with("log truncated"), "{last}");

    let short = "for i in 0..100000 { log::info(`${i}`); } \"done\"";
    let reply = app.run("short", short, &limits);
    target.answers("100,000 short lines", &reply, &[200, 504, 507]);
    let logs = app.execution_of(&reply)["logs"].clone();
    assert_eq!(logs.as_array().unwrap().len(), 1_001, "the lines kept, and one that says there were more");
    target.ends_unharmed();
}

/// Of these, 38 of the catalogue are the split headers; the platform's cookie is with the attacks by HTTP.
#[test]
fn attack_20_responses_that_are_none() {
    let target = Target::new("20");
    let app = target.server.app();
    let limits = json!({ "memory_mb": 256, "response_bytes": 16_777_216 });
    let answer = |app: &TestApp<'_>, name: &str, source: &str| -> Reply { app.run(name, source, &limits) };
    let huge = answer(&app, "huge", "#{ statusCode: 200, body: blob(100000000, 65) }");
    target.ends_in("100 MB of body", &huge, &["invalid_response", "memory_exceeded"]);
    let many = "let h = #{}; for i in 0..10000 { h[`x-${i}`] = \"1\"; } #{ statusCode: 200, headers: h }";
    target.ends_in("10,000 headers", &answer(&app, "many", many), &["invalid_response"]);
    let hostile = [
        ("status-99", "#{ statusCode: 99 }"),
        ("status-101", "#{ statusCode: 101 }"),
        ("status-1000", "#{ statusCode: 1000 }"),
        ("status-below-0", "#{ statusCode: -200 }"),
        ("status-line", "#{ statusCode: \"200\\r\\nX: 1\" }"),
        ("header-name", "#{ statusCode: 200, headers: #{ \"x\\r\\ny\": \"1\" } }"),
        ("header-value", "#{ statusCode: 200, headers: #{ x: \"1\\r\\nset-cookie: a=b\" } }"),
        ("header-nul", "#{ statusCode: 200, headers: #{ x: \"1\\x00\" } }"),
        ("location", "#{ statusCode: 302, headers: #{ location: \"/a\\r\\nset-cookie: a=b\" } }"),
        (
            "cookie",
            "#{ statusCode: 200, headers: #{ \"set-cookie\": [\"a=b\", \"c=d\\r\\n\\r\\n<html>\"] } }",
        ),
        ("header-length", "let v = \"\"; v.pad(20000, 'x'); #{ statusCode: 200, headers: #{ x: v } }"),
    ];
    for (name, source) in hostile {
        target.ends_in(name, &answer(&app, name, source), &["invalid_response"]);
    }
    // What is about the connection is the platform's to say.
    let smuggled = "#{ statusCode: 200, headers: #{ \"transfer-encoding\": \"chunked\", \"content-length\": \"1\",                     connection: \"upgrade\" }, body: \"whole\" }";
    let reply = answer(&app, "smuggled", smuggled);
    target.answers("headers of the connection", &reply, &[200]);
    assert_eq!((reply.text(), reply.header("transfer-encoding")), ("whole", ""));
    target.ends_unharmed();
}

#[test]
fn attack_61_one_log_line_longer_than_a_whole_log() {
    let target = Target::new("61");
    let app = target.server.app();
    let lines = [
        ("message", "let s = \"\"; s.pad(300000, 'x'); log::info(s); log::info(\"after\"); 1"),
        ("data", "let s = \"\"; s.pad(300000, 'x'); log::info(\"m\", #{ s: s }); 1"),
        ("print", "let s = \"\"; s.pad(3000000, 'x'); print(s); 1"),
        ("both", "let s = \"\"; s.pad(200000, 'ü'); log::warn(s, s); 1"),
    ];
    for (name, source) in lines {
        let reply = app.run(name, source, &NO_LIMITS);
        target.answers(name, &reply, &[200]);
        let logs = app.execution_of(&reply)["logs"].clone();
        let last = &logs.as_array().unwrap().last().unwrap()["message"];
        assert!(last.as_str().unwrap().starts_with("log truncated"), "{name}: {last}");
    }
    target.ends_unharmed();
}
