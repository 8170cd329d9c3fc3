//! Another tenant beside an attack, who asks for a page all the time and must not notice.

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Client;

/// Often enough that no attack falls between two requests.
const INTERVAL: Duration = Duration::from_millis(20);
/// When a person would notice; tests run unoptimised, several at once, on two cores.
const NOTICED: Duration = Duration::from_secs(5);

pub(crate) struct Canary {
    stop: Sender<()>,
    asking: JoinHandle<Seen>,
}

/// What the canary saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    requests: usize,
    slowest: Duration,
    failures: Vec<String>,
}

impl Canary {
    /// Asks for the page of the app `default`.
    pub(crate) fn beside(client: &Client) -> Self {
        let (stop, stopped) = channel();
        let client = client.clone();
        Self { stop, asking: std::thread::spawn(move || ask(&client, &stopped)) }
    }

    /// Ends the asking, and fails if any answer was late or not as always.
    #[track_caller]
    pub(crate) fn release(self) -> Seen {
        let _ = self.stop.send(());
        let seen = self.asking.join().unwrap();
        assert!(seen.failures.is_empty(), "the canary noticed: {:?}", seen.failures);
        assert!(seen.requests > 0 && seen.slowest < NOTICED, "the canary noticed: {seen}");
        seen
    }
}

fn ask(client: &Client, stopped: &Receiver<()>) -> Seen {
    let mut seen = Seen::default();
    loop {
        let since = Instant::now();
        match client.try_send("GET", "localhost", "/hello/pi", &[], b"") {
            Ok(reply) if reply.status == 200 && reply.body == b"Hello, pi!\n" => {}
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

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} answers, {} ms at most", self.requests, self.slowest.as_millis()))
    }
}
