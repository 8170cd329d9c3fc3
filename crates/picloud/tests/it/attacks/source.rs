//! Sources that are an attack before they run.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{CAPS_OR_ERROR, Target};
use crate::harness::{NO_LIMITS, TestApp};

#[test]
fn attack_03_deeply_nested_source() {
    let target = Target::new("03");
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
    let mut slowest = (Duration::ZERO, "none");
    for depth in [64, 128] {
        for (name, source) in &sources {
            let since = Instant::now();
            let reply =
                app.try_deploy(name, source, &json!({ "max_expr_depth": depth, "max_call_levels": 128 }));
            slowest = slowest.max((since.elapsed(), *name));
            target.ends_in(name, &reply, &["compile_error"]);
            assert_eq!(reply.status, 422, "{name} at {depth}");
        }
    }
    let (took, name) = slowest;
    target.took(&format!("the slowest: {name}"), "50 ms on an idle machine", took);
    target.ends_unharmed();
}

#[test]
fn attack_11_code_that_makes_code() {
    let target = Target::new("11");
    let app = target.server.app();
    let eval = app.try_deploy("eval", "let s = \"1\"; eval(s)", &NO_LIMITS);
    target.ends_in("eval", &eval, &["compile_error"]);
    let made = [
        ("pointer", "loop { Fn(\"eval\").call(\"1\"); }"),
        ("curry", "let f = |x| x; loop { f = f.curry(1); }"),
    ];
    target.each_ends_in(&app, &made, &CAPS_OR_ERROR);
    let functions: String = (0..60_000).map(|n| format!("fn f{n}(){{}}")).collect();
    let deployed = app.try_deploy("functions", &functions, &NO_LIMITS);
    target.ends_in("60,000 functions", &deployed, &["compile_error"]);
    let million: String = (0..1_000_000).map(|n| format!("fn f{n}(){{}}")).collect();
    is_too_long(&target, &app, "1,000,000 functions", &json!({ "source": million }).to_string());
    target.ends_unharmed();
}

/// The server refuses a body before its end, so no more is sent of it than it would read until then.
#[track_caller]
fn is_too_long(target: &Target, app: &TestApp<'_>, name: &str, body: &str) {
    let start = format!(
        "PUT /api/v1/admin/apps/{}/scripts/big HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{}",
        app.slug,
        target.server.bearer(),
        body.len(),
        &body[..=2 << 20]
    );
    let answer = target.server.client.raw(start.as_bytes());
    target.row(name, "413", answer.split(' ').nth(1).unwrap_or("nothing"));
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("body_too_large"), "{answer}");
}

#[test]
fn attack_12_sources_that_are_too_long_or_no_text() {
    let target = Target::new("12");
    let app = target.server.app();
    let path = format!("/apps/{}/scripts/big", app.slug);
    let long = app.try_deploy("big", &"x".repeat((1 << 20) + 1), &NO_LIMITS);
    target.ends_in("a byte too long", &long, &["body_too_large"]);
    is_too_long(&target, &app, "100 MiB", &" ".repeat(100 << 20));
    let not_utf8 = target.server.admin_bytes("PUT", &path, b"{\"source\":\"\xff\xfe\"}");
    target.ends_in("not UTF-8", &not_utf8, &["bad_request"]);
    target.ends_in("U+0000", &app.try_deploy("big", "\0", &NO_LIMITS), &["invalid_input"]);
    let binary = app.try_deploy("big", "\u{7f}\u{202e}%PNG\r\n", &NO_LIMITS);
    target.ends_in("binary", &binary, &["compile_error"]);
    target.ends_unharmed();
}

/// A module is another script of the same app, and nothing else.
#[test]
fn attack_21_imports_that_lead_elsewhere_in_circles_or_too_deep() {
    let target = Target::new("21");
    let (app, other) = (target.server.app(), target.server.app());
    other.admin("PUT", "/scripts/secret", &json!({ "source": "fn f() { 1 }", "kind": "module" })).is(201);
    app.deploy("endpoint", "1", &NO_LIMITS);
    let module = |name: &str, source: &str| {
        app.admin("PUT", &format!("/scripts/{name}"), &json!({ "source": source, "kind": "module" }))
    };
    module("m0", "fn f() { 1 }").is(201);
    for depth in 1..9 {
        module(&format!("m{depth}"), &format!("import \"m{}\" as m; fn f() {{ m::f() }}", depth - 1)).is(201);
    }
    let imports = [
        ("itself", "itself".to_owned()),
        ("parent folder", "../secret".to_owned()),
        ("another app", format!("{}/secret", other.slug)),
        ("another app's module", "secret".to_owned()),
        ("an endpoint", "endpoint".to_owned()),
        ("a file", "/etc/passwd".to_owned()),
        ("an address", "http://127.0.0.1/secret".to_owned()),
        ("too deep", "m8".to_owned()),
        ("nothing", String::new()),
    ];
    for (name, import) in imports {
        let script = if name == "itself" { "itself" } else { "user" };
        let source = format!("import \"{import}\" as m; m::f()");
        target.ends_in(name, &app.try_deploy(script, &source, &NO_LIMITS), &["compile_error"]);
    }
    // A circle of two, closed by changing the first.
    let circle = module("m0", "import \"m1\" as m; fn f() { m::f() }");
    target.ends_in("in a circle", &circle, &["compile_error"]);
    // Neither at run time.
    let late = "let name = \"secret\"; import name as m; m::f()";
    target.ends_in("by a variable", &app.try_deploy("late", late, &NO_LIMITS), &["compile_error"]);
    target.ends_unharmed();
}
