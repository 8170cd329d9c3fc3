//! Attacks on CPU and memory by source alone. Each names what it tries; none may cost a worker.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{NO_LIMITS, Reply, TestApp, TestServer, eventually, process};

const CAPS: [&str; 3] = ["fuel_exhausted", "memory_exceeded", "timeout"];
const CAPS_OR_ERROR: [&str; 4] = ["fuel_exhausted", "memory_exceeded", "timeout", "script_error"];

/// A server under attack, and the workers it had before.
struct Target {
    server: Arc<TestServer>,
    workers: BTreeSet<u32>,
}

impl Target {
    fn new() -> Self {
        let server = TestServer::shared();
        let workers = server.workers();
        Self { server, workers }
    }

    /// Another tenant is served as before, by the same workers.
    #[track_caller]
    fn is_unharmed(&self) {
        for _ in 0..4 {
            assert_eq!(self.server.client.get("localhost", "/hello/pi").is(200).text(), "Hello, pi!\n");
        }
        assert_eq!(self.server.workers(), self.workers, "a worker was lost");
    }
}

fn tight() -> Value {
    json!({ "fuel": 3_000_000_000_u64, "memory_mb": 16, "timeout_ms": 2000 })
}

#[track_caller]
fn ends_in(reply: &Reply, codes: &[&str]) {
    let code = reply.json()["code"].as_str().unwrap_or("none").to_owned();
    assert!(codes.contains(&code.as_str()), "{code}: {}", String::from_utf8_lossy(&reply.body));
    reply.is_problem(&code);
}

#[track_caller]
fn each_ends_in(app: &TestApp<'_>, sources: &[(&str, &str)], codes: &[&str]) {
    for (name, source) in sources {
        ends_in(&app.run(name, source, &tight()), codes);
    }
}

#[test]
fn attack_01_endless_loops() {
    let target = Target::new();
    let app = target.server.app();
    let loops = [
        ("loop", "loop {}"),
        ("while", "let x = 0; while true { x = 1 - x; }"),
        ("for", "let n = 0; for i in 0..9223372036854775807 { n = i; }"),
        ("catch", "loop { try { throw 1; } catch { } }"),
    ];
    each_ends_in(&app, &loops, &["fuel_exhausted", "timeout"]);
    target.is_unharmed();
}

#[test]
fn attack_02_endless_recursion() {
    let target = Target::new();
    let app = target.server.app();
    let recursions = [
        ("plain", "fn f() { f() } f()"),
        ("mutual", "fn a(n) { b(n + 1) } fn b(n) { a(n + 1) } a(0)"),
        ("closure", "let f = |f, n| f.call(f, n + 1); f.call(f, 0)"),
        ("caught", "fn f() { try { f() } catch { f() } } f()"),
        ("callback", "fn f(n) { [1].map(|x| f(n + 1)) } f(0)"),
        ("text", "fn f(n) { `${f(n + 1)}` } f(0)"),
    ];
    for (name, source) in recursions {
        let limits = json!({ "max_call_levels": 128, "max_expr_depth": 128, "fuel": 1_000_000_000 });
        ends_in(&app.run(name, source, &limits), &CAPS_OR_ERROR);
    }
    target.is_unharmed();
}

#[test]
fn attack_03_deeply_nested_source() {
    let target = Target::new();
    let app = target.server.app();
    let n = 100_000;
    let sources = [
        ("parentheses", format!("{}1{}", "(".repeat(n), ")".repeat(n))),
        ("arrays", format!("{}{}", "[".repeat(n), "]".repeat(n))),
        ("maps", format!("{}1{}", "#{a:".repeat(n), "}".repeat(n))),
        ("blocks", format!("{}{}", "{".repeat(n), "}".repeat(n))),
        ("dots", format!("let a = 1; a{}", ".a".repeat(n))),
        ("indexes", format!("let a = []; a{}", "[0]".repeat(n))),
        ("nots", format!("{}true", "!".repeat(n))),
        ("minuses", format!("{}1", "- ".repeat(n))),
        ("sum", format!("1{}", "+1".repeat(n))),
        ("unfinished", "((((".repeat(n)),
        ("ifs", format!("{}{}", "if true {".repeat(n), "}".repeat(n))),
        ("else-ifs", format!("if false {{}} {}", "else if false {} ".repeat(n / 4))),
        ("closures", format!("{}1", "|x| ".repeat(n))),
        ("texts", format!("{}1{}", "`${".repeat(n), "}`".repeat(n))),
        ("switches", format!("{}1{}", "switch 1 { _ => ".repeat(n / 2), "}".repeat(n / 2))),
    ];
    for depth in [64, 128] {
        for (name, source) in &sources {
            let reply =
                app.try_deploy(name, source, &json!({ "max_expr_depth": depth, "max_call_levels": 128 }));
            assert_eq!(reply.status, 422, "{name} at {depth}: {}", String::from_utf8_lossy(&reply.body));
            reply.is_problem("compile_error");
        }
    }
    target.is_unharmed();
}

#[test]
fn attack_04_string_doubling() {
    let target = Target::new();
    let app = target.server.app();
    each_ends_in(&app, &[("double", "let s = \"x\"; loop { s += s; }")], &["memory_exceeded"]);
    target.is_unharmed();
}

#[test]
fn attack_05_containers_that_explode() {
    let target = Target::new();
    let app = target.server.app();
    let bombs = [
        ("array", "let a = [1]; loop { a += a; }"),
        ("map", "let m = #{}; let i = 0; loop { m[`key ${i}`] = i; i += 1; }"),
        ("blob", "let b = blob(1); loop { b += b; }"),
        ("pad", "let s = \"x\"; s.pad(1000000000, 'y'); s.len()"),
        ("pad-more", "let s = \"x\"; s.pad(10000000000, 'y'); s.len()"),
        ("pad-array", "let a = []; a.pad(1000000000, 1); a.len()"),
        ("big-blob", "blob(10000000000).len()"),
        ("blob-2g", "blob(2147483648).len()"),
        ("range", "let a = []; for i in range(0, 9223372036854775807) { a.push(i); } a"),
        ("nested", "let a = []; loop { a = [a, a]; a = [a.len(), a, a]; }"),
        ("self", "let a = []; loop { a.push(a); }"),
        ("split", "let s = \"\"; s.pad(1048576, 'x'); let all = []; loop { all.push(s.split(\"\")); }"),
        ("text", "let s = \"0123456789\"; loop { s = `${s}${s}`; }"),
        ("extract", "let a = []; a.pad(100000, \"x\"); let all = []; loop { all += a.extract(0); }"),
    ];
    each_ends_in(&app, &bombs, &CAPS_OR_ERROR);
    target.is_unharmed();
}

#[test]
fn attack_06_many_variables_each_of_modest_size() {
    let target = Target::new();
    let app = target.server.app();
    let mut source = "let base = \"\"; base.pad(1000000, 'x');\n".to_owned();
    for n in 0..200 {
        source += &format!("let v{n} = base + \"{n}\";\n");
    }
    ends_in(&app.run("variables", &source, &NO_LIMITS), &["memory_exceeded"]);

    let mut many = String::new();
    for n in 0..60_000 {
        many += &format!("let v{n}=0;");
    }
    let deployed = app.try_deploy("many", &many, &NO_LIMITS);
    assert!(matches!(deployed.status, 201 | 422), "{deployed:?}");
    target.is_unharmed();
}

#[test]
fn attack_07_cheap_operations_on_long_values() {
    let target = Target::new();
    let app = target.server.app();
    let long = "let s = \"\"; s.pad(1048576, 'x'); ";
    let calls = [
        ("index-of", "loop { s.index_of(\"y\"); }"),
        ("replace", "loop { let t = s + \"\"; t.replace(\"x\", \"z\"); }"),
        ("upper", "loop { s.to_upper(); }"),
        ("compare", "let t = s + \"\"; loop { s == t; }"),
        ("sort", "let a = []; for i in 0..100000 { a.push(100000 - i); } loop { let b = a; b.sort(); }"),
        ("clone", "let a = [s, s, s]; loop { let b = a; b.push(1); }"),
        ("chars", "loop { for c in s.chars() { } }"),
        ("reverse", "let a = []; a.pad(100000, 1); loop { a.reverse(); }"),
    ];
    for (name, call) in calls {
        ends_in(&app.run(name, &format!("{long}{call}"), &tight()), &CAPS);
    }
    target.is_unharmed();
}

#[test]
fn attack_09_many_keys_take_time_in_proportion() {
    let target = Target::new();
    let app = target.server.app();
    let source = r#"
        let m = #{};
        for i in 0..100000 { m[`k${i}`] = i; }
        m.len()
    "#;
    let reply = app.run("keys", source, &json!({ "memory_mb": 64 }));
    assert_eq!(reply.is(200).json(), json!(100_000));
    target.is_unharmed();
}

#[test]
fn attack_10_hostile_json() {
    let target = Target::new();
    let app = target.server.app();
    app.serve("parse", "#{ kind: type_of(ctx.request.body), raw: ctx.request.body_raw.len() }", &NO_LIMITS);
    app.serve("inside", "json::parse(ctx.request.body_raw); \"parsed\"", &NO_LIMITS);
    let million = format!("{{{}\"z\":1}}", (0..90_000).map(|n| format!("\"k{n}\":1,")).collect::<String>());
    let documents = [
        ("deep arrays", "[".repeat(100_000), false),
        ("deep maps", "{\"a\":".repeat(100_000), false),
        ("deep and closed", format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), false),
        ("many keys", million, true),
        ("same key", format!("{{{}\"a\":1}}", "\"a\":0,".repeat(50_000)), true),
        ("lone surrogate", "\"\\ud800\"".to_owned(), false),
        ("infinite number", "1e999".to_owned(), false),
        ("endless integer", "9".repeat(10_000), false),
        ("not json at all", "\0\0\0".to_owned(), false),
    ];
    for (name, document, is_fine) in &documents {
        let seen = app.post("/parse", "application/json", document.as_bytes()).is(200).json();
        assert_eq!(seen["raw"], document.len(), "{name}");
        assert!(*is_fine != (seen["kind"] == "()"), "{name}: {seen}");
        let inside = app.post("/inside", "text/plain", document.as_bytes());
        assert_eq!(inside.status, if *is_fine { 200 } else { 500 }, "{name}: {inside:?}");
    }
    let huge = vec![b'['; 50 << 20];
    let refused = app.client().try_send("POST", &app.host, "/parse", &[], &huge);
    // The server answers without taking the body in, so the client may notice only that it is cut off.
    assert!(refused.is_err() || refused.is_ok_and(|reply| reply.status == 413));
    target.is_unharmed();
}

#[test]
fn attack_11_code_that_makes_code() {
    let target = Target::new();
    let app = target.server.app();
    app.try_deploy("eval", "let s = \"1\"; eval(s)", &NO_LIMITS).is(422).is_problem("compile_error");
    let made = [
        ("pointer", "loop { Fn(\"eval\").call(\"1\"); }"),
        ("curry", "let f = |x| x; loop { f = f.curry(1); }"),
    ];
    each_ends_in(&app, &made, &CAPS_OR_ERROR);
    let functions: String = (0..60_000).map(|n| format!("fn f{n}(){{}}")).collect();
    app.try_deploy("functions", &functions, &NO_LIMITS).is(422).is_problem("compile_error");
    target.is_unharmed();
}

#[test]
fn attack_12_sources_that_are_too_long_or_no_text() {
    let target = Target::new();
    let app = target.server.app();
    let path = format!("/apps/{}/scripts/big", app.slug);
    let long = app.try_deploy("big", &"x".repeat((1 << 20) + 1), &NO_LIMITS);
    long.is(413).is_problem("body_too_large");
    // The server refuses it before the end, so no more is sent than it reads until then.
    let start = format!(
        "PUT /api/v1/admin{path} HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{}",
        target.server.bearer(),
        10 << 20,
        " ".repeat((2 << 20) + 1)
    );
    let answer = target.server.client.raw(start.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("body_too_large"), "{answer}");
    let not_utf8 = b"{\"source\":\"\xff\xfe\"}";
    target.server.admin_bytes("PUT", &path, not_utf8).is(400).is_problem("bad_request");
    app.try_deploy("big", "\0", &NO_LIMITS).is(422).is_problem("invalid_input");
    app.try_deploy("big", "\u{7f}\u{202e}%PNG\r\n", &NO_LIMITS).is(422).is_problem("compile_error");
    target.is_unharmed();
}

#[test]
fn attack_13_arithmetic_at_the_edges() {
    let target = Target::new();
    let app = target.server.app();
    let failing = [
        ("add", "let a = 9223372036854775807; a + 1"),
        ("multiply", "let a = 9223372036854775807; a * 2"),
        ("negate", "let a = -9223372036854775807 - 1; -a"),
        ("divide", "let a = 1; a / 0"),
        ("remainder", "let a = 1; a % 0"),
        ("divide-least", "let a = -9223372036854775807 - 1; a / -1"),
        ("remainder-least", "let a = -9223372036854775807 - 1; a % -1"),
        ("power", "let a = 10; a ** 1000"),
        ("abs", "let a = -9223372036854775807 - 1; a.abs()"),
    ];
    each_ends_in(&app, &failing, &["script_error"]);
    let odd = [
        ("shift-left", "let a = 1; a << 1000000000"),
        ("shift-right", "let a = 1; a >> 1000000000"),
        ("shift-negative", "let a = 1; a << -1000000000"),
        (
            "nan",
            "let n = 0.0 / 0.0; let a = [1.0, n, 0.5, n]; a.sort(|x, y| if x < y { -1 } else { 1 }); a.len()",
        ),
        ("liar", "let a = []; for i in 0..1000 { a.push(i); } a.sort(|x, y| 1); a.len()"),
        (
            "random-order",
            "let a = []; for i in 0..1000 { a.push(i); } let n = 7; a.sort(|x, y| { n = n * 31 % 1009; n % 3 - 1 }); a.len()",
        ),
        ("index", "let a = [1]; a[-9223372036854775807 - 1]"),
        ("slice", "let a = [1]; a.extract(-9223372036854775807, 9223372036854775807).len()"),
        ("sub", "\"text\".sub_string(-9223372036854775807, 9223372036854775807)"),
        ("bits", "let a = 1; a[1000000..=2000000]"),
        ("step", "let n = 0; for i in range(0, 10, 9223372036854775807) { n += 1; } n"),
    ];
    for (name, source) in odd {
        let reply = app.run(name, source, &tight());
        assert!(matches!(reply.status, 200 | 500), "{name}: {}", String::from_utf8_lossy(&reply.body));
    }
    target.is_unharmed();
}

#[test]
fn attack_14_waiting_and_measuring_time() {
    let target = Target::new();
    let app = target.server.app();
    each_ends_in(&app, &[("sleep", "sleep(3600)"), ("stamp", "timestamp()")], &["script_error"]);
    let busy = "let begun = time::now_ms(); while time::now_ms() == begun { } \"the clock moved\"";
    each_ends_in(&app, &[("busy", busy)], &["fuel_exhausted", "timeout"]);
    target.is_unharmed();
}

#[test]
fn attack_46_one_log_line_longer_than_a_whole_log() {
    let target = Target::new();
    let app = target.server.app();
    let lines = [
        ("message", "let s = \"\"; s.pad(300000, 'x'); log::info(s); log::info(\"after\"); 1"),
        ("data", "let s = \"\"; s.pad(300000, 'x'); log::info(\"m\", #{ s: s }); 1"),
        ("print", "let s = \"\"; s.pad(3000000, 'x'); print(s); 1"),
        ("both", "let s = \"\"; s.pad(200000, 'ü'); log::warn(s, s); 1"),
    ];
    for (name, source) in lines {
        let reply = app.run(name, source, &NO_LIMITS);
        reply.is(200);
        let logs = app.execution_of(&reply)["logs"].clone();
        let last = &logs.as_array().unwrap().last().unwrap()["message"];
        assert!(last.as_str().unwrap().starts_with("log truncated"), "{name}: {last}");
    }
    target.is_unharmed();
}

/// One operation may copy megabytes and takes its slot's turn for long. Neighbours with short deadlines
/// must not cost the worker they share with many of those.
#[test]
fn attack_48_long_operations_in_many_slots_beside_short_deadlines() {
    let target = Target::new();
    let app = target.server.app();
    let copy = "let b = blob(60000000, 1); loop { let c = b; c[0] = 2; }";
    let limits = json!({ "fuel": 300_000_000_000_u64, "memory_mb": 150, "timeout_ms": 3000 });
    app.serve("copy", copy, &limits);
    app.serve("short", "loop {}", &json!({ "timeout_ms": 10 }));
    std::thread::scope(|scope| {
        let copies: Vec<_> = (0..16).map(|_| scope.spawn(|| app.get("/copy"))).collect();
        for _ in 0..20 {
            app.get("/short").is(504).is_problem("timeout");
        }
        for copy in copies {
            ends_in(&copy.join().unwrap(), &["timeout"]);
        }
    });
    target.is_unharmed();
}

/// Random bytes are made outside the guest, where its own count of its work does not see them.
#[test]
fn attack_49_having_the_worker_hash_for_nothing() {
    let target = Target::new();
    let app = target.server.app();
    let reply = app.run("draw", "for i in 0..50 { random::bytes(65536); } 1", &NO_LIMITS);
    reply.is(200);
    let fuel = app.execution_of(&reply)["fuel"].as_u64().unwrap();
    assert!(fuel > 50 * 65_536 * 60, "{fuel}");
    let endless = "loop { random::bytes(65536); }";
    ends_in(&app.run("endless", endless, &tight()), &["fuel_exhausted"]);
    target.is_unharmed();
}

/// Memory never shrinks; what one execution grew must not stay with the worker when it is over.
#[test]
fn attack_50_leaving_large_memories_behind() {
    let target = Target::new();
    let app = target.server.app();
    let limits = json!({ "memory_mb": 256 });
    app.serve("large", "let b = blob(200000000, 1); b.len()", &limits);
    std::thread::scope(|scope| {
        let requests: Vec<_> = (0..4).map(|_| scope.spawn(|| app.get("/large"))).collect();
        for request in requests {
            request.join().unwrap().is(200);
        }
    });
    eventually("no worker keeps it", || {
        target.workers.iter().all(|worker| process::resident_kib(*worker) < 150 << 10).then_some(())
    });
    target.is_unharmed();
}
