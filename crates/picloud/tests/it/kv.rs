//! `kv` from a script, through worker, pool, services and database.

use serde_json::json;

use crate::harness::{NO_LIMITS, TestServer};

#[test]
fn a_script_finds_what_another_execution_kept() {
    let server = TestServer::shared();
    let app = server.app();
    app.serve("keep", "kv::collection(\"c\").set(\"k\", ctx.request.body); 1", &NO_LIMITS);
    app.serve("find", "let c = kv::collection(\"c\"); [c.get(\"k\"), c.get(\"none\")]", &NO_LIMITS);
    app.post("/keep", "application/json", br#"{"n":[1,2.5,"\u00e9\u0000",null,true]}"#).is(200);
    let reply = app.get("/find");
    let expected = json!([{ "n": [1, 2.5, "é\u{0}", null, true] }, null]);
    assert_eq!(reply.is(200).json(), expected);
    assert_eq!(app.execution_of(&reply)["host_calls"], 2);
}

#[test]
fn another_app_does_not_find_it() {
    let server = TestServer::shared();
    let (mine, theirs) = (server.app(), server.app());
    mine.serve("keep", "kv::collection(\"c\").set(\"k\", 1)", &NO_LIMITS);
    theirs.serve("find", "kv::collection(\"c\").get(\"k\")", &NO_LIMITS);
    mine.get("/keep").is(200);
    assert_eq!(theirs.get("/find").is(200).json(), json!(null));
}

#[test]
fn what_a_call_refuses_is_an_error_map_that_a_script_can_catch() {
    let server = TestServer::shared();
    let app = server.app();
    let catching = |call: &str| format!("try {{ {call} }} catch (error) {{ return error.code }}");
    for (name, call, code) in [
        ("nul", "kv::collection(\"c\").get(\"a\\x00b\")", "invalid_argument"),
        ("empty", "kv::collection(\"\").get(\"a\")", "invalid_argument"),
        ("large", "let s = \"x\"; s.pad(65536, \"x\"); kv::collection(\"c\").set(\"k\", s)", "too_large"),
        ("function", "kv::collection(\"c\").set(\"k\", || 1)", "invalid_value"),
        ("budget", "let c = kv::collection(\"c\"); for i in 0..10001 { c.get(\"k\") }", "budget_exhausted"),
    ] {
        app.serve(name, &catching(call), &NO_LIMITS);
        assert_eq!(app.get(&format!("/{name}")).is(200).json(), json!(code), "{call}");
    }
}

#[test]
fn a_script_that_goes_on_calling_although_it_is_refused_is_ended_alone() {
    let server = TestServer::shared();
    let app = server.app();
    let limits = json!({ "fuel": 100_000_000_000_u64, "timeout_ms": 60_000 });
    for (name, begin, call) in [
        ("calls", "", "c.get(\"k\")"),
        // Too large for a value, but not for a call.
        ("arguments", "let s = \"\"; s.pad(1000000, 'x');", "c.set(\"k\", s)"),
        ("answers", "let s = \"\"; s.pad(60000, 'x'); c.set(\"k\", s);", "c.get(\"k\")"),
    ] {
        let flood = format!("let c = kv::collection(\"c\"); {begin} loop {{ try {{ {call} }} catch {{ }} }}");
        let reply = app.run(name, &flood, &limits);
        assert_eq!(reply.is(500).json()["code"], "script_error", "{name}");
        assert_eq!(app.execution_of(&reply)["status"], "script_error", "{name}");
    }
}

#[test]
fn a_script_uses_all_of_kv() {
    let server = TestServer::shared();
    let app = server.app();
    let source = r#"
        let c = kv::collection("c");
        let first = c.set("a/1", #{n: 1});
        c.set_with("a/2", 2, #{ttl: 60});
        let taken = ();
        try { c.set_with("a/1", 0, #{if_absent: true}); } catch (error) { taken = error.code; }
        let entry = c.entry("a/1");
        let second = c.set_with("a/1", 3, #{if_version: entry.version});
        let stale = ();
        try { c.set_with("a/1", 0, #{if_version: first}); } catch (error) { stale = error.code; }
        let misspelt = ();
        try { c.set_with("a/1", 0, #{tttl: 1}); } catch (error) { misspelt = error.code; }
        let page = c.list(#{prefix: "a/", limit: 1});
        let rest = c.list(#{prefix: "a/", cursor: page.cursor});
        [
            entry.value, entry.version == first, second > first, taken, stale, misspelt,
            c.incr("n"), c.incr("n", -5), c.has("n"), c.delete("n"), c.has("n"), c.entry("n"),
            c.get_many(["a/2", "none", "a/1"]), page.items[0].key, page.items[0].value,
            rest.items[0].key, rest.items[0].expires_at > time::now_ms(), rest.cursor, c.list().items.len(),
        ]
    "#;
    app.serve("all", source, &NO_LIMITS);
    let expected = json!([
        { "n": 1 }, true, true, "conflict", "conflict", "invalid_argument", 1, -4, true, true, false, null,
        [2, null, 3], "a/1", 3, "a/2", true, null, 2
    ]);
    assert_eq!(app.get("/all").is(200).json(), expected);
}

/// Doubles of every magnitude, which a reader who rounds twice gets wrong now and then.
#[test]
fn a_number_is_read_as_it_was_written() {
    let server = TestServer::shared();
    let app = server.app();
    let source = r#"
        let c = kv::collection("numbers");
        c.set("all", ctx.request.body);
        [c.get("all"), json::parse(json::stringify(ctx.request.body))]
    "#;
    app.serve("numbers", source, &NO_LIMITS);
    // Knuth's linear congruential generator (MMIX).
    let next = |bits: &u64| {
        Some(bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    };
    let random =
        std::iter::successors(Some(1_u64), next).map(f64::from_bits).filter(|number| number.is_finite());
    let everyday = (1..=1_000).map(|n| f64::from(n) * 0.1 + 1.0 / f64::from(n));
    let numbers: Vec<f64> =
        random.take(1_000).chain(everyday).chain([-0.0, f64::MIN_POSITIVE, f64::MAX]).collect();
    let reply = app.post("/numbers", "application/json", &serde_json::to_vec(&numbers).unwrap());
    assert_eq!(reply.is(200).json(), json!([numbers, numbers]));
}
