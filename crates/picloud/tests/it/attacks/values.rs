//! Values at the edges of what there is.

use super::{Target, tight};
use crate::harness::NO_LIMITS;

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
        target.answers(name, &reply, &[200, 500]);
    }
    target.ends_unharmed();
}
