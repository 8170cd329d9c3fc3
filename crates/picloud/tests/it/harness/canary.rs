//! Another app beside an attack, whose page is asked for all the time and must not notice. The page needs a worker
//! and the database.

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Client, NO_LIMITS, TestServer, print_row};

/// Often enough that no attack falls between two requests.
const INTERVAL: Duration = Duration::from_millis(20);
/// When a person would notice; tests run unoptimised, several at once, on two cores.
const NOTICED: Duration = Duration::from_secs(5);
/// What the page shows, as it is kept.
const KEPT: &str = "the canary is well";

pub(crate) struct Canary {
    stop: Sender<()>,
    asking: JoinHandle<Seen>,
}

/// What the canary saw.
#[derive(Debug, Default)]
struct Seen {
    requests: usize,
    slowest: Duration,
    failures: Vec<String>,
}

impl Canary {
    /// Asks for the page of a new app, once before it answers.
    #[track_caller]
    pub(crate) fn beside(server: &TestServer) -> Self {
        let app = server.app();
        app.admin("PUT", "/kv/canary/kept", &json!({ "value": KEPT })).is(200);
        app.run("canary", "kv::collection(\"canary\").get(\"kept\")", &NO_LIMITS).is(200);
        let (stop, stopped) = channel();
        let (client, host) = (app.client().clone(), app.host);
        Self { stop, asking: std::thread::spawn(move || ask(&client, &host, &stopped)) }
    }

    /// Ends the asking, prints the row of the canary, and fails if any answer was late or not as always.
    #[track_caller]
    pub(crate) fn release(self, number: &str) {
        let _ = self.stop.send(());
        let seen = self.asking.join().unwrap();
        print_row(number, "the canary", "notices nothing", &seen.to_string());
        assert!(seen.failures.is_empty(), "the canary noticed: {:?}", seen.failures);
        assert!(seen.requests > 0 && seen.slowest < NOTICED, "the canary noticed: {seen}");
    }
}

fn ask(client: &Client, host: &str, stopped: &Receiver<()>) -> Seen {
    let mut seen = Seen::default();
    loop {
        let since = Instant::now();
        match client.try_send("GET", host, "/canary", &[], b"") {
            Ok(reply) if reply.status == 200 && shows_what_is_kept(&reply.body) => {}
            Ok(reply) => seen.failures.push(String::from_utf8_lossy(&reply.body).into_owned()),
            Err(error) => seen.failures.push(error.to_string()),
        }
        seen.slowest = seen.slowest.max(since.elapsed());
        seen.requests += 1;
        if stopped.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
            return seen;
        }
    }
}

fn shows_what_is_kept(page: &[u8]) -> bool {
    serde_json::from_slice::<Value>(page).is_ok_and(|shown| shown == KEPT)
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answers, {} ms at most", self.requests, self.slowest.as_millis())
    }
}
