//! Scripts that want all memory.

use serde_json::json;

use super::{CAPS_OR_ERROR, TIGHT_MEMORY_MB, Target, tight};
use crate::harness::{NO_LIMITS, eventually, process};

#[test]
fn attack_04_string_doubling() {
    let target = Target::new("04");
    let app = target.server.app();
    target.each_ends_in(&app, &[("double", "let s = \"x\"; loop { s += s; }")], &["memory_exceeded"]);
    target.ends_unharmed();
}

#[test]
fn attack_05_containers_that_explode() {
    let target = Target::new("05");
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
    let replies = bombs.map(|(name, source)| (name, app.run(name, source, &tight())));
    for (name, reply) in &replies {
        target.ends_in(name, reply, &CAPS_OR_ERROR);
        target.leaves_the_interpreter(&app, name, reply);
        let peak = app.execution_of(reply)["peak_memory_bytes"].as_u64().unwrap();
        let expected = format!("{TIGHT_MEMORY_MB} MiB at most");
        target.row(&format!("{name}: memory"), &expected, &format!("{peak} bytes"));
        assert!(peak <= TIGHT_MEMORY_MB << 20, "{name}: {peak}");
    }
    // There is room for the blob, and no address for the end of such an array.
    let unreachable = app.run("to-array", "blob(140000000).to_array().len()", &json!({ "memory_mb": 256 }));
    target.ends_in("to-array", &unreachable, &["script_error"]);
    target.leaves_the_interpreter(&app, "to-array", &unreachable);
    target.ends_unharmed();
}

#[test]
fn attack_06_many_variables_each_of_modest_size() {
    let target = Target::new("06");
    let app = target.server.app();
    let mut source = "let base = \"\"; base.pad(1000000, 'x');\n".to_owned();
    for n in 0..200 {
        source += &format!("let v{n} = base + \"{n}\";\n");
    }
    target.ends_in("200 variables", &app.run("variables", &source, &NO_LIMITS), &["memory_exceeded"]);

    // As many as one source has no room for: the same ones at each of 63 levels of calls, all alive at once.
    let variables: String = (0..1_600).map(|n| format!("let v{n} = s + n; ")).collect();
    let deep = format!(
        "fn f(n, s) {{ {variables} if n == 0 {{ 1600 }} else {{ 1600 + f(n - 1, s) }} }} \
         let s = \"\"; s.pad(500, 'x'); f(62, s)"
    );
    let ended = app.run("deep", &deep, &NO_LIMITS);
    target.ends_in("100,800 variables", &ended, &["memory_exceeded"]);
    let roomy = app.run("roomy", &deep, &json!({ "memory_mb": 256 }));
    target.answers("the same in 256 MiB", &roomy, &[200]);
    assert_eq!(roomy.json(), json!(100_800), "nothing but memory ends it");

    let mut many: String = (0..60_000).map(|n| format!("let v{n}=0;")).collect();
    many += "v59999";
    let deployed = app.try_deploy("many", &many, &NO_LIMITS);
    target.answers("60,000 names", &deployed, &[201, 422]);
    if deployed.status == 201 {
        app.route("/many", "many");
        target.answers("60,000 names that run", &app.get("/many"), &[200, 507]);
    }
    target.ends_unharmed();
}

/// Memory never shrinks; what one execution grew must not stay with the worker when it is over.
#[test]
fn attack_65_leaving_large_memories_behind() {
    let target = Target::new("65");
    let app = target.server.app();
    let limits = json!({ "memory_mb": 256 });
    app.serve("large", "let b = blob(200000000, 1); b.len()", &limits);
    std::thread::scope(|scope| {
        let requests: Vec<_> = (0..4).map(|_| scope.spawn(|| app.get("/large"))).collect();
        for request in requests {
            target.answers("200 MB", &request.join().unwrap(), &[200]);
        }
    });
    eventually("no worker keeps it", || {
        target.server.workers().iter().all(|worker| process::resident_kib(*worker) < 150 << 10).then_some(())
    });
    target.ends_unharmed();
}
