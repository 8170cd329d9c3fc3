//! Scripts that want the processor for themselves.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{CAPS, CAPS_OR_ERROR, Target, tight};
use crate::harness::NO_LIMITS;

/// Of the loops that have fuel enough to reach it.
const DEADLINE_MS: u64 = 500;

#[test]
fn attack_01_endless_loops() {
    let target = Target::new("01");
    let app = target.server.app();
    let loops = [
        ("loop", "loop {}"),
        ("while", "let x = 0; while true { x = 1 - x; }"),
        ("for", "let n = 0; for i in 0..9223372036854775807 { n = i; }"),
        ("catch", "loop { try { throw 1; } catch { } }"),
    ];
    let limits = json!({ "fuel": 300_000_000_000_u64, "memory_mb": 16, "timeout_ms": DEADLINE_MS });
    let mut excess = Duration::ZERO;
    for (name, source) in loops {
        target.ends_in(name, &app.run(name, source, &tight()), &["fuel_exhausted", "timeout"]);
        // With more fuel than it can burn until then, it is the deadline that ends it.
        let late = format!("{name}-late");
        app.serve(&late, source, &limits);
        let since = Instant::now();
        let reply = app.get(&format!("/{late}"));
        excess = excess.max(since.elapsed().saturating_sub(Duration::from_millis(DEADLINE_MS)));
        target.ends_in(&late, &reply, &["timeout"]);
    }
    target.took("longest after deadline", "10 ms on an idle machine, 1 s on any", excess);
    assert!(excess < Duration::from_secs(1), "{excess:?}");
    target.ends_unharmed();
}

#[test]
fn attack_02_endless_recursion() {
    let target = Target::new("02");
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
        target.ends_in(name, &app.run(name, source, &limits), &CAPS_OR_ERROR);
    }
    target.ends_unharmed();
}

#[test]
fn attack_07_cheap_operations_on_long_values() {
    let target = Target::new("07");
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
        target.ends_in(name, &app.run(name, &format!("{long}{call}"), &tight()), &CAPS);
    }
    target.ends_unharmed();
}

#[test]
fn attack_09_many_keys_take_time_in_proportion() {
    let target = Target::new("09");
    let app = target.server.app();
    // Fuel and not time, which other tests take as well. The same work burns the same fuel.
    let fuel = [50_000, 100_000].map(|keys: u64| {
        let source = format!("let m = #{{}}; for i in 0..{keys} {{ m[`k${{i}}`] = i; }} m.len()");
        let reply = app.run(&format!("keys-{keys}"), &source, &json!({ "memory_mb": 64 }));
        target.answers(&format!("a map of {keys} keys"), &reply, &[200]);
        assert_eq!(reply.json(), json!(keys));
        app.execution_of(&reply)["fuel"].as_u64().unwrap()
    });
    let [half, whole] = fuel;
    target.row("fuel for twice as many", "2.5 times as much at most", &format!("{half}, {whole}"));
    assert!(half > 0 && whole * 2 <= half * 5, "{half}, {whole}");
    target.ends_unharmed();
}

#[test]
fn attack_14_waiting_and_measuring_time() {
    let target = Target::new("14");
    let app = target.server.app();
    target.each_ends_in(&app, &[("sleep", "sleep(3600)"), ("stamp", "timestamp()")], &["script_error"]);
    let busy = "let begun = time::now_ms(); while time::now_ms() == begun { } \"the clock moved\"";
    target.each_ends_in(&app, &[("busy", busy)], &["fuel_exhausted", "timeout"]);
    target.ends_unharmed();
}

/// One operation may copy a hundred megabytes. It is done in pieces, so that neighbours with short
/// deadlines get their turns, and do not cost the worker that they share with many of those.
#[test]
fn attack_63_long_operations_in_many_slots_beside_short_deadlines() {
    let target = Target::new("63");
    let app = target.server.app();
    let copy = "let b = blob(100000000, 1); loop { let c = b; c[0] = 2; }";
    let limits = json!({ "fuel": 300_000_000_000_u64, "memory_mb": 256, "timeout_ms": 3000 });
    app.serve("copy", copy, &limits);
    app.serve("short", "loop {}", &json!({ "timeout_ms": 10 }));
    std::thread::scope(|scope| {
        let copies: Vec<_> = (0..4).map(|_| scope.spawn(|| app.get("/copy"))).collect();
        for _ in 0..20 {
            app.get("/short").is(504).is_problem("timeout");
        }
        for copy in copies {
            target.ends_in("copies", &copy.join().unwrap(), &["timeout"]);
        }
    });
    target.ends_unharmed();
}

/// Random bytes are made outside the guest, where its own count of its work does not see them.
#[test]
fn attack_64_having_the_worker_hash_for_nothing() {
    let target = Target::new("64");
    let app = target.server.app();
    let reply = app.run("draw", "for i in 0..50 { random::bytes(65536); } 1", &NO_LIMITS);
    target.answers("3 MB of randomness", &reply, &[200]);
    let fuel = app.execution_of(&reply)["fuel"].as_u64().unwrap();
    assert!(fuel > 50 * 65_536 * 60, "{fuel}");
    let endless = "loop { random::bytes(65536); }";
    let limits = json!({ "fuel": 3_000_000_000_u64, "timeout_ms": 20_000 });
    target.ends_in("endless", &app.run("endless", endless, &limits), &["fuel_exhausted"]);
    target.ends_unharmed();
}
