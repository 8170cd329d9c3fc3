//! Attacks by source and by HTTP, numbered as in `docs/attacks.md`. Each names what it tries; none may cost a
//! worker, and another tenant, who asks for a page all the while, must not notice.

mod calls;
mod cpu;
mod effects;
mod held;
mod memory;
mod source;
mod timing;
mod values;
mod web;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Canary, Reply, TestApp, TestServer, print_row};

const CAPS: [&str; 3] = ["fuel_exhausted", "memory_exceeded", "timeout"];
const CAPS_OR_ERROR: [&str; 4] = ["fuel_exhausted", "memory_exceeded", "timeout", "script_error"];
/// What the record says of an execution in which the interpreter itself ended.
const FELL: &str = "the interpreter ended unexpectedly";
/// What an execution under [`tight`] limits may have.
const TIGHT_MEMORY_MB: u64 = 16;

/// A server under attack, how many workers it had lost before, and somebody else who uses it.
struct Target {
    number: &'static str,
    server: Arc<TestServer>,
    lost_workers: usize,
    canary: Canary,
}

impl Target {
    fn new(number: &'static str) -> Self {
        Self::on(number, TestServer::shared())
    }

    /// For attacks that need a server with settings of its own, or that look at its database.
    fn on(number: &'static str, server: Arc<TestServer>) -> Self {
        let lost_workers = server.lost_workers();
        let canary = Canary::beside(&server);
        Self { number, server, lost_workers, canary }
    }

    /// A row of the table that `make torture` prints.
    fn row(&self, name: &str, expected: &str, seen: &str) {
        print_row(self.number, name, expected, seen);
    }

    /// How long something took beside what the catalogue wants. It is printed and not asserted: tests run
    /// unoptimised, several at once.
    fn took(&self, name: &str, wanted: &str, took: Duration) {
        self.row(name, wanted, &format!("{} ms", took.as_millis()));
    }

    #[track_caller]
    fn ends_in(&self, name: &str, reply: &Reply, codes: &[&str]) {
        let code = reply.json()["code"].as_str().unwrap_or("none").to_owned();
        self.row(name, &codes.join(", "), &code);
        assert!(codes.contains(&code.as_str()), "{code}: {}", String::from_utf8_lossy(&reply.body));
        reply.is_problem(&code);
    }

    #[track_caller]
    fn each_ends_in(&self, app: &TestApp<'_>, sources: &[(&str, &str)], codes: &[&str]) {
        for (name, source) in sources {
            let reply = app.run(name, source, &tight());
            self.ends_in(name, &reply, codes);
            self.leaves_the_interpreter(app, name, &reply);
        }
    }

    /// Asserts that it was the script that failed, if anything: where the interpreter ends instead, strangers are told
    /// the same, but no script can catch it.
    #[track_caller]
    fn leaves_the_interpreter(&self, app: &TestApp<'_>, name: &str, reply: &Reply) {
        if reply.status != 200 {
            let message = app.execution_of(reply)["error"]["message"].clone();
            self.row(
                &format!("{name}: why"),
                "any other than that the interpreter ended",
                &message.to_string(),
            );
            assert_ne!(message, FELL, "{name}");
        }
    }

    /// Asserts a status that is one of few.
    #[track_caller]
    fn answers(&self, name: &str, reply: &Reply, statuses: &[u16]) {
        let expected: Vec<_> = statuses.iter().map(u16::to_string).collect();
        self.row(name, &expected.join(", "), &reply.status.to_string());
        assert!(statuses.contains(&reply.status), "{name}: {}", String::from_utf8_lossy(&reply.body));
    }

    /// Another tenant was, and is, served as before, and no worker fell.
    #[track_caller]
    fn ends_unharmed(self) {
        self.canary.release(self.number);
        assert_eq!(self.server.lost_workers(), self.lost_workers, "a worker was lost");
    }
}

fn tight() -> Value {
    json!({ "fuel": 3_000_000_000_u64, "memory_mb": TIGHT_MEMORY_MB, "timeout_ms": 2000 })
}
