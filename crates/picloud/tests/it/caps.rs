//! Caps that hold: CPU, memory, time, stack; and a worker that goes on as if nothing had been.

use std::time::Instant;

use serde_json::json;

use crate::harness::{NO_LIMITS, Reply, TestApp, TestServer};

/// About a hundredth of a second of CPU.
const LITTLE_FUEL: u64 = 100_000_000;
/// More than any deadline of these tests leaves time for.
const MUCH_FUEL: u64 = 300_000_000_000;

const BOMBS: [(&str, &str); 3] = [
    ("string", "let s = \"x\"; loop { s += s; }"),
    ("array", "let a = []; loop { a.push(\"0123456789\".to_upper()); }"),
    ("blob", "let b = blob(1024); loop { b.append(b); }"),
];

#[test]
fn an_endless_loop_ends_when_its_fuel_is_burnt() {
    let server = TestServer::shared();
    let app = server.app();
    let reply = app.run("burn", "loop {}", &json!({ "fuel": LITTLE_FUEL }));
    let problem = reply.is(507).is_problem("fuel_exhausted");
    assert_eq!(problem["fault"], "script");
    let record = app.execution_of(&reply);
    assert_eq!(record["status"], "fuel_exhausted");
    let fuel = record["fuel"].as_u64().unwrap();
    assert!((LITTLE_FUEL - LITTLE_FUEL / 100..=LITTLE_FUEL).contains(&fuel), "{record}");
}

#[test]
fn an_endless_loop_ends_at_its_deadline() {
    let server = TestServer::shared();
    let app = server.app();
    let lost = server.lost_workers();
    app.serve("spin", "loop {}", &json!({ "fuel": MUCH_FUEL, "timeout_ms": 300 }));
    let begun = Instant::now();
    let reply = app.get("/spin");
    let took = begun.elapsed();
    reply.is(504).is_problem("timeout");
    assert!((300..2_000).contains(&took.as_millis()), "{took:?}");
    let duration = app.execution_of(&reply)["duration_ms"].as_f64().unwrap();
    assert!((299.0..1_500.0).contains(&duration), "{duration} ms");
    assert_eq!(server.lost_workers(), lost, "no worker was lost");
}

#[test]
fn a_memory_bomb_ends_at_its_cap() {
    let server = TestServer::shared();
    let app = server.app();
    let lost = server.lost_workers();
    for (name, source) in BOMBS {
        for memory_mb in [4, 32] {
            let reply = app.run(&format!("{name}-{memory_mb}"), source, &json!({ "memory_mb": memory_mb }));
            reply.is(507).is_problem("memory_exceeded");
            let peak = app.execution_of(&reply)["peak_memory_bytes"].as_u64().unwrap();
            assert!((1..=memory_mb << 20).contains(&peak), "{name}: {peak}");
        }
        server.client.get("localhost", "/hello/pi").is(200);
    }
    assert_eq!(server.lost_workers(), lost, "no worker was lost");
}

#[test]
fn who_waits_for_a_slot_too_long_is_told_when_to_come_back() {
    // Two workers with one slot each, of which an app has half.
    let server = TestServer::start_with(&[("PICLOUD_SLOTS_PER_WORKER", "1")]);
    let app = server.app();
    app.serve("long", "loop { }", &json!({ "timeout_ms": 7_000, "fuel": MUCH_FUEL }));
    let ask = || {
        let begun = Instant::now();
        (app.get("/long"), begun.elapsed().as_millis())
    };
    std::thread::scope(|scope| {
        let requests: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        let replies: Vec<_> = requests.into_iter().map(|request| request.join().unwrap()).collect();
        let refused: Vec<_> = replies.iter().filter(|(reply, _)| reply.status == 503).collect();
        assert!(!refused.is_empty(), "{replies:?}");
        for (reply, waited_ms) in refused {
            assert!((5_000..5_900).contains(waited_ms), "{waited_ms} ms");
            let problem = reply.is_problem("overloaded");
            assert_eq!((&problem["fault"], &problem["retry"]), (&json!("platform"), &json!("safe")));
            assert!(reply.header("retry-after").parse::<u32>().unwrap() >= 1);
        }
    });
}

#[test]
fn endless_recursion_is_the_scripts_error() {
    let server = TestServer::shared();
    let app = server.app();
    let lost = server.lost_workers();
    for max_call_levels in [1, 64, 128] {
        let limits = json!({ "max_call_levels": max_call_levels });
        let reply = app.run(&format!("deep-{max_call_levels}"), "fn f(n) { 1 + f(n + 1) } f(0)", &limits);
        reply.is(500).is_problem("script_error");
    }
    assert_eq!(server.lost_workers(), lost, "no worker was lost");
}

/// What the script's owner is told of an error.
#[track_caller]
fn error_of(app: &TestApp<'_>, reply: &Reply) -> String {
    reply.is(500).is_problem("script_error");
    app.execution_of(reply)["error"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn calls_nest_to_their_limit_and_no_deeper() {
    let server = TestServer::shared();
    let app = server.app();
    let nested = "fn f(n) { if n == 0 { 0 } else { 1 + f(n - 1) } }";
    for levels in [1, 64, 128] {
        let limits = json!({ "max_call_levels": levels });
        // f(0) is a call itself.
        let calls = |count: u32| {
            app.run(&format!("calls-{levels}-{count}"), &format!("{nested} f({})", count - 1), &limits)
        };
        assert_eq!(calls(levels).is(200).json(), json!(levels - 1));
        let error = error_of(&app, &calls(levels + 1));
        // The counter says so; the guest's own stack has room for more.
        assert!(error.contains("Stack overflow"), "{levels}: {error}");
    }
}

#[test]
fn expressions_nest_to_their_limit_and_no_deeper() {
    let server = TestServer::shared();
    let app = server.app();
    for depth in [2, 64, 128] {
        let limits = json!({ "max_expr_depth": depth });
        // The statement is one level, and its expression another.
        let nots = |levels: usize| format!("{}true", "!".repeat(levels - 2));
        assert_eq!(app.run(&format!("nots-{depth}"), &nots(depth), &limits).is(200).json(), json!(true));
        let refused = app.try_deploy("over", &nots(depth + 1), &limits);
        let problem = refused.is(422).is_problem("compile_error");
        assert!(problem["message"].as_str().unwrap().contains("maximum complexity"), "{depth}: {problem}");
    }
}

#[test]
fn a_script_that_takes_one_operation_more_than_it_may_is_ended() {
    let server = TestServer::shared();
    let app = server.app();
    let run = |name: &str, source: &str, most: u64| {
        app.run(&format!("{name}-{most}"), source, &json!({ "max_operations": most }))
    };
    let is_ended = |reply: &Reply| {
        let error = error_of(&app, reply);
        assert!(error.contains("Too many operations"), "{error}");
    };
    let least = (1..=16).find(|most| run("one", "1", *most).status == 200).unwrap();
    assert!(least > 1, "a statement and its expression are two");
    is_ended(&app.get(&format!("/one-{}", least - 1)));
    let rounds = "let sum = 0; for i in 0..1000 { sum += i; } sum";
    let caught = "try { loop { } } catch { 1 }";
    for (name, source) in [("rounds", rounds), ("endless", "loop { }"), ("caught", caught)] {
        is_ended(&run(name, source, 500));
    }
    for most in [0, 1_000_000] {
        assert_eq!(run("rounds", rounds, most).is(200).json(), json!(499_500));
    }
}

#[test]
fn a_script_that_stays_within_its_limits_is_not_disturbed() {
    let server = TestServer::shared();
    let app = server.app();
    let source = "let sum = 0; for i in 0..100000 { sum += i; } sum";
    assert_eq!(app.run("sum", source, &NO_LIMITS).is(200).json(), json!(4_999_950_000_i64));
    let source = "let b = blob(20000000); b.len()";
    assert_eq!(app.run("room", source, &NO_LIMITS).is(200).json(), json!(20_000_000));
    let fits = "fn f(n) { if n == 0 { 0 } else { 1 + f(n - 1) } } f(60)";
    assert_eq!(app.run("fits", fits, &NO_LIMITS).is(200).json(), json!(60));
}

#[test]
fn the_same_run_burns_the_same_fuel() {
    let server = TestServer::shared();
    let app = server.app();
    app.serve("work", "let m = #{}; for i in 0..1000 { m[`k${i % 7}`] = i; } m", &NO_LIMITS);
    let fuel: Vec<_> =
        (0..5).map(|_| app.execution_of(&app.get("/work"))["fuel"].as_u64().unwrap()).collect();
    // The request's id is in the input, and as long each time.
    assert!(fuel.iter().all(|used| *used == fuel[0] && *used > 0), "{fuel:?}");
}

#[test]
fn sixty_four_bombs_leave_no_slot_behind() {
    let server = TestServer::start();
    let app = server.app();
    let workers = server.workers();
    app.serve("burn", "loop {}", &json!({ "fuel": 20_000_000 }));
    app.serve("grow", BOMBS[0].1, &json!({ "memory_mb": 8 }));
    app.serve("spin", "loop {}", &json!({ "fuel": MUCH_FUEL, "timeout_ms": 50 }));
    app.serve("deep", "fn f() { f() } f()", &NO_LIMITS);
    let bombs = [("/burn", 507), ("/grow", 507), ("/spin", 504), ("/deep", 500)];
    std::thread::scope(|scope| {
        for n in 0..64 {
            let (path, status) = bombs[n % bombs.len()];
            let app = &app;
            scope.spawn(move || assert_eq!(app.get(path).status, status, "{path}"));
        }
    });
    // As many as there are slots for one app, at once: each lost slot would make one wait for ever.
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| assert_eq!(server.client.get("localhost", "/hello/pi").status, 200));
        }
    });
    let begun = Instant::now();
    for _ in 0..64 {
        server.client.get("localhost", "/hello/pi").is(200);
    }
    assert!(begun.elapsed().as_millis() < 3_000, "hello is slow: {:?}", begun.elapsed());
    assert_eq!(server.workers(), workers, "no worker was lost");
}
