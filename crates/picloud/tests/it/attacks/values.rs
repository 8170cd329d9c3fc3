//! Values at the edges of what there is.

use serde_json::json;

use super::{Target, tight};
use crate::harness::{NO_LIMITS, TestServer};

#[test]
fn attack_10_hostile_json() {
    let target = Target::new("10");
    let app = target.server.app();
    app.serve("parse", "#{ kind: type_of(ctx.request.body), raw: ctx.request.body_raw.len() }", &NO_LIMITS);
    app.serve("inside", "json::parse(ctx.request.body_raw); \"parsed\"", &NO_LIMITS);
    // As many as fit into the longest body that a route takes by default.
    let many = format!("{{{}\"z\":1}}", (0..90_000).map(|n| format!("\"k{n}\":1,")).collect::<String>());
    let documents = [
        ("deep arrays", "[".repeat(100_000), false),
        ("deep maps", "{\"a\":".repeat(100_000), false),
        ("deep and closed", format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), false),
        ("many keys", many, true),
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
        target.answers(name, &inside, if *is_fine { &[200] } else { &[500] });
    }
    let huge = vec![b'['; 50 << 20];
    let refused = app.client().try_send("POST", &app.host, "/parse", &[], &huge);
    // The server answers without taking the body in, so the client may notice only that it is cut off.
    let seen = refused.as_ref().map_or_else(|_| "cut off".to_owned(), |reply| reply.status.to_string());
    target.row("50 MiB", "413 or cut off", &seen);
    assert!(refused.is_err() || refused.is_ok_and(|reply| reply.status == 413));
    target.ends_unharmed();
}

#[test]
fn attack_13_arithmetic_at_the_edges() {
    let target = Target::new("13");
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
    target.each_ends_in(&app, &failing, &["script_error"]);
    let odd = [
        ("shift-left", "let a = 1; a << 1000000000"),
        ("shift-right", "let a = 1; a >> 1000000000"),
        ("shift-negative", "let a = 1; a << -1000000000"),
        ("index", "let a = [1]; a[-9223372036854775807 - 1]"),
        ("slice", "let a = [1]; a.extract(-9223372036854775807, 9223372036854775807).len()"),
        ("sub", "\"text\".sub_string(-9223372036854775807, 9223372036854775807)"),
        ("bits", "let a = 1; a[1000000..=2000000]"),
        ("step", "let n = 0; for i in range(0, 10, 9223372036854775807) { n += 1; } n"),
    ];
    for (name, source) in odd {
        let reply = app.run(name, source, &tight());
        target.answers(name, &reply, &[200, 500]);
        target.leaves_the_interpreter(&app, name, &reply);
    }
    target.ends_unharmed();
}

/// 133 numbers and 67 of which no order knows anything.
const MEASURED: &str = "let a = []; for i in 0..200 { \
    let x = if i % 3 == 0 { 0.0 / 0.0 } else { (i * 7 % 200).to_float() }; a.push(x); }";
const THOUSAND: &str = "let a = []; for i in 0..1000 { a.push(i); }";

#[test]
fn attack_13_orders_that_contradict_themselves() {
    let target = Target::new("13");
    let app = target.server.app();
    let orders = [
        (
            "nan",
            format!(
                "{MEASURED} a.sort(); let wrong = 0; for i in 1..133 {{ if a[i - 1] >= a[i] {{ wrong += 1; }} }} \
                 [wrong, a[133].is_nan(), a[199].is_nan(), a.len()]"
            ),
            json!([0, true, true, 200]),
        ),
        (
            "nan-descending",
            format!(
                "{MEASURED} a.sort_desc(); let wrong = 0; \
                 for i in 68..200 {{ if a[i - 1] <= a[i] {{ wrong += 1; }} }} \
                 [a[0].is_nan(), a[66].is_nan(), wrong, a.len()]"
            ),
            json!([true, true, 0, 200]),
        ),
        (
            "nan-compared",
            format!("{MEASURED} a.sort(|x, y| if x < y {{ -1 }} else {{ 1 }}); a.len()"),
            json!(200),
        ),
        ("liar", format!("{THOUSAND} a.sort(|x, y| 1); a.len()"), json!(1000)),
        (
            "random-order",
            format!(
                "{THOUSAND} let n = 7; let seen = (); \
                 try {{ a.sort(|x, y| {{ n = n * 31 % 1009; n % 3 - 1 }}); }} catch (error) {{ seen = error; }} \
                 a.sort(); [seen, a[0], a[999], a.len()]"
            ),
            json!([null, 0, 999, 1000]),
        ),
        (
            "throws",
            "let a = [3, 1, 2]; let seen = (); \
             try { a.sort(|x, y| { throw \"unlike\"; }); } catch (error) { seen = error; } [seen, a]"
                .to_owned(),
            json!(["unlike", [3, 1, 2]]),
        ),
    ];
    for (name, source, expected) in &orders {
        let reply = app.run(name, source, &tight());
        target.leaves_the_interpreter(&app, name, &reply);
        target.answers(name, &reply, &[200]);
        assert_eq!(reply.json(), *expected, "{name}");
    }
    target.ends_unharmed();
}

/// What the guest sorts in place of Rhai is sorted as by it.
#[test]
fn sorts_are_stable_and_take_everything_that_has_an_order() {
    let server = TestServer::shared();
    let app = server.app();
    let sorts = [
        (
            "whole",
            "let a = [3, 1, 2]; [a.order(), a.order_desc(), a]",
            json!([[1, 2, 3], [3, 2, 1], [3, 1, 2]]),
        ),
        ("texts", "let a = [\"b\", \"ä\", \"\", \"a\"]; a.sort(); a", json!(["", "a", "b", "ä"])),
        ("claims", "let a = [true, false, true]; a.sort(); a", json!([false, true, true])),
        ("floats", "let a = [0.5, -1.5, 2.0]; a.sort_desc(); a", json!([2.0, 0.5, -1.5])),
        ("nothing", "let a = [(), ()]; let b = []; a.sort(); [a, b.order()]", json!([[null, null], []])),
        (
            "by",
            "let a = [1, 3, 2]; [a.order(|x, y| y - x), a.order_by(|x, y| x <= y)]",
            json!([[3, 2, 1], [1, 2, 3]]),
        ),
        ("by-name", "fn down(x, y) { y - x } let a = [1, 3, 2]; a.sort(\"down\"); a", json!([3, 2, 1])),
        (
            "many",
            "let a = []; for i in 0..1000 { a.push(i * 7919 % 1000); } a.sort(); \
             let wrong = 0; for i in 0..1000 { if a[i] != i { wrong += 1; } } wrong",
            json!(0),
        ),
        // Round in a ring of three and in two of two, and some that stay.
        (
            "rings",
            "let a = [1, 2, 0, 3, 6, 5, 4, 8, 7, 9]; a.sort(); a",
            json!([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ),
        (
            "stable",
            "let a = []; for i in 0..100 { a.push(#{ kind: i % 3, at: i }); } a.sort_by(|x, y| x.kind - y.kind); \
             let wrong = 0; for i in 1..100 { let x = a[i - 1]; let y = a[i]; \
             if x.kind > y.kind || (x.kind == y.kind && x.at > y.at) { wrong += 1; } } wrong",
            json!(0),
        ),
        (
            "refused",
            "const A = [2, 1]; let seen = 0; let mixed = [1, \"a\"]; let maps = [#{}, #{}]; \
             try { A.sort(); } catch { seen += 1; } try { mixed.sort(); } catch { seen += 1; } \
             try { maps.sort(); } catch { seen += 1; } [seen, A]",
            json!([3, [2, 1]]),
        ),
    ];
    for (name, source, expected) in &sorts {
        assert_eq!(app.run(name, source, &NO_LIMITS).is(200).json(), *expected, "{name}");
    }
}

/// There is room for half of it once more, and not for another array.
#[test]
fn an_array_that_fills_most_of_the_memory_is_sorted() {
    let server = TestServer::shared();
    let app = server.app();
    let source = "let a = []; a.pad(1000000, 1); a[0] = 3; a[500000] = 2; a.sort(); \
                  [a[0], a[999997], a[999998], a[999999], a.len()]";
    let sorted = app.run("large", source, &json!({ "memory_mb": 32 })).is(200).json();
    assert_eq!(sorted, json!([1, 1, 2, 3, 1_000_000]));
}
