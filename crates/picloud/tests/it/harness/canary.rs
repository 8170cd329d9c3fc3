//! Another owner's app beside an attack, whose page is asked for all the time and must not notice. The page needs a
//! worker, which where owners are kept apart is none of the attacker's, and the database.

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Client, NO_LIMITS, PASSWORD, TestServer, print_row};

/// Whose app it is; those of attackers are the administrator's.
const OWNER: &str = "canary";
/// Often enough that no attack falls between two requests.
const INTERVAL: Duration = Duration::from_millis(20);
/// When a person would notice; tests run unoptimised, several at once, on two cores.
const NOTICED: Duration = Duration::from_secs(5);
/// Answers that show how long one takes before the attack.
const FIRST: usize = 5;
/// So many times as long as before the median may be during the attack, or [`UNNOTICED`] where that is more.
const SLOWER: u32 = 20;
const UNNOTICED: Duration = Duration::from_millis(250);
/// Of fewer answers the median is chance.
const JUDGED_FROM: usize = 5;
/// What the page shows, as it is kept.
const KEPT: &str = "the canary is well";

pub(crate) struct Canary {
    stop: Sender<()>,
    before: Seen,
    asking: JoinHandle<Seen>,
}

/// What the canary saw.
#[derive(Debug, Default)]
struct Seen {
    took: Vec<Duration>,
    failures: Vec<String>,
}

impl Canary {
    /// Asks for the page of a new app, a few times before it answers.
    #[track_caller]
    pub(crate) fn beside(server: &TestServer) -> Self {
        let made = server.admin("POST", "/users", &json!({ "username": OWNER, "password": PASSWORD }));
        // On a server with several of them, another one may have made the owner.
        assert!(matches!(made.status, 201 | 409), "{made:?}");
        let app = server.app();
        app.admin("POST", ":assign", &json!({ "user": OWNER })).is(200);
        app.admin("PUT", "/kv/canary/kept", &json!({ "value": KEPT })).is(200);
        app.run("canary", "kv::collection(\"canary\").get(\"kept\")", &NO_LIMITS).is(200);
        let (client, host) = (app.client().clone(), app.host);
        let mut before = Seen::default();
        (0..FIRST).for_each(|_| before.ask(&client, &host));
        assert!(before.failures.is_empty(), "the canary is not well: {:?}", before.failures);
        let (stop, stopped) = channel();
        Self { stop, before, asking: std::thread::spawn(move || ask(&client, &host, &stopped)) }
    }

    /// Ends the asking, prints the row of the canary, and fails if any answer was late or not as always, or if most of
    /// them took much longer than before.
    #[track_caller]
    pub(crate) fn release(self, number: &str) {
        let _ = self.stop.send(());
        let seen = self.asking.join().unwrap();
        let most = UNNOTICED.max(self.before.median() * SLOWER);
        let expected = format!("notices nothing: half of it within {} ms", most.as_millis());
        print_row(number, "the canary", &expected, &seen.to_string());
        assert!(seen.failures.is_empty(), "the canary noticed: {:?}", seen.failures);
        assert!(!seen.took.is_empty() && seen.slowest() < NOTICED, "the canary noticed: {seen}");
        let is_judged = seen.took.len() >= JUDGED_FROM;
        assert!(!is_judged || seen.median() <= most, "the canary noticed: {seen}; before: {}", self.before);
    }
}

fn ask(client: &Client, host: &str, stopped: &Receiver<()>) -> Seen {
    let mut seen = Seen::default();
    loop {
        seen.ask(client, host);
        if stopped.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
            return seen;
        }
    }
}

fn shows_what_is_kept(page: &[u8]) -> bool {
    serde_json::from_slice::<Value>(page).is_ok_and(|shown| shown == KEPT)
}

impl Seen {
    fn ask(&mut self, client: &Client, host: &str) {
        let since = Instant::now();
        match client.try_send("GET", host, "/canary", &[], b"") {
            Ok(reply) if reply.status == 200 && shows_what_is_kept(&reply.body) => {}
            Ok(reply) => self.failures.push(String::from_utf8_lossy(&reply.body).into_owned()),
            Err(error) => self.failures.push(error.to_string()),
        }
        self.took.push(since.elapsed());
    }

    fn median(&self) -> Duration {
        let mut sorted = self.took.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    fn slowest(&self) -> Duration {
        self.took.iter().max().copied().unwrap_or_default()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, median, slowest) = (self.took.len(), self.median(), self.slowest());
        write!(f, "{count} answers, median {} ms, {} ms at most", median.as_millis(), slowest.as_millis())
    }
}
