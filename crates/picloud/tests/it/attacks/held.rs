//! Scripts that begin what they never end: pages of a list, transactions, waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::Target;
use crate::harness::{NO_LIMITS, TestApp, TestServer, World, eventually, process};

/// The transactions that this server began and has left alone for a second, with their last statements; PostgreSQL's own
/// (autovacuum has some for minutes) and those in the middle of a statement or a commit are none.
fn held_transactions(app: &TestApp<'_>) -> String {
    app.server.disk.query(
        "select coalesce(string_agg(query, '; '), 'none')
         from pg_stat_activity
         where datname = current_database() and backend_type = 'client backend'
           and state like 'idle in transaction%' and state_change < clock_timestamp() - interval '1 second'",
    )
}

/// A place in a list is a text that the script has; the server keeps nothing of it.
#[test]
fn attack_22_ten_thousand_lists_that_are_never_read_to_their_end() {
    let target = Target::on("22", Arc::new(TestServer::start()));
    let app = target.server.app();
    let fill = "let c = kv::collection(\"c\"); let d = docs::collection(\"d\");
                for i in 0..3 { c.set(`k${i}`, i); d.create(#{ i: i }); }";
    app.run("fill", fill, &NO_LIMITS).is(200);
    let before = process::resident_kib(target.server.pid());
    let open = "let c = kv::collection(\"c\"); let d = docs::collection(\"d\"); let open = []; let code = ();
                try { loop { open.push(c.list(#{ limit: 1 }).cursor); open.push(d.list(#{ limit: 1 }).cursor); } }
                catch (error) { code = error.code }
                [open.len(), open[0] != (), open[1] != (), code]";
    let limits = json!({ "timeout_ms": 120_000, "fuel": 300_000_000_000_u64, "memory_mb": 64 });
    let reply = app.run("open", open, &limits).is(200).json();
    target.row("10,000 lists", "10,000 calls, then an error", &reply.to_string());
    assert_eq!(reply, json!([10_000, true, true, "budget_exhausted"]));
    let grown = process::resident_kib(target.server.pid()).saturating_sub(before);
    target.row("growth of the parent", "less than 32 MiB", &format!("{grown} KiB"));
    assert!(grown < 32 << 10, "{grown} KiB");
    assert_eq!(held_transactions(&app), "none");
    target.ends_unharmed();
}

/// While a script waits for somebody else, the database waits for nobody.
#[test]
fn attack_23_waiting_with_a_transaction_in_hand() {
    let settings = [("PICLOUD_HTTP_ALLOW_PRIVATE", "127.0.0.0/8")];
    let target = Target::on("23", Arc::new(TestServer::start_with(&settings)));
    let (app, world) = (target.server.app(), World::start());
    app.admin("PUT", "/egress", &json!({ "allow": null, "ports": [world.port()] })).is(200);
    app.deploy("slow", "loop { }", &json!({ "timeout_ms": 2_500, "fuel": 300_000_000_000_u64 }));
    let ask = format!("http::get(\"{}\", #{{ timeout_ms: 2500 }})", world.url("/silent"));
    let waits = [
        ("a silent server", ask.as_str()),
        ("another script", "invoke(\"slow\")"),
        (
            "the next attempt",
            "retry::run(#{ attempts: 2, backoff: \"fixed\", base: 2.5 }, || { throw \"no\" })",
        ),
    ];
    for (number, (name, wait)) in waits.iter().enumerate() {
        let key = format!("k{number}");
        let source = format!(
            "let c = kv::collection(\"c\");
             atomic::commit([#{{ kv: \"c\", key: \"{key}\", check: () }}, #{{ kv: \"c\", key: \"{key}\", incr: 1 }}]);
             try {{ {wait} }} catch {{ }}
             atomic::commit([#{{ kv: \"c\", key: \"{key}\", incr: 1 }}])"
        );
        let script = format!("wait-{number}");
        app.serve(&script, &source, &NO_LIMITS);
        let looks = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| app.get(&format!("/{script}")));
            let count = format!("select count(*)::text from kv where key = '{key}'");
            eventually("its first change is there", || (app.server.disk.query(&count) == "1").then_some(()));
            let mut looks = 0;
            while !waiting.is_finished() {
                assert_eq!(held_transactions(&app), "none", "while it waits for {name}");
                looks += 1;
            }
            assert_eq!(waiting.join().unwrap().is(200).json(), json!([2]), "{name}");
            looks
        });
        target.row(name, "no transaction is open meanwhile", &format!("none, {looks} times"));
        assert!(looks > 2, "{looks}");
    }
    assert_eq!(world.requests.load(Ordering::Relaxed), 1);
    target.ends_unharmed();
}
