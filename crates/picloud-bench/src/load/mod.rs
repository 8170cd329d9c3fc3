//! The client: one thread asks on many connections, a request at a time on each, and checks every
//! answer. It shares the machine with what it measures, so it must cost little: no runtime, no
//! allocation per request, three system calls for a request and its answer at most.

mod background;
mod connection;
mod histogram;
mod noise;
mod response;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use mio::{Events, Interest, Poll, Token};

pub(crate) use self::background::{Background, Tally, ask, send};
use self::connection::Connection;
pub(crate) use self::histogram::Histogram;
pub(crate) use self::noise::noise;

/// A server that says nothing for so long has stopped answering.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// What is asked, and what has to come back.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    expected: Expected,
}

/// A right answer.
#[derive(Debug, Clone)]
enum Expected {
    /// 200 with exactly this body.
    Body(Vec<u8>),
    /// 202, with any body.
    Accepted,
}

impl Request {
    /// A GET with the headers that curl sends; the answer must be a 200 with exactly this body.
    pub(crate) fn get(path: &str, expected: &str) -> Self {
        Self::on("localhost", path, expected)
    }

    /// The same, on another host.
    pub(crate) fn on(host: &str, path: &str, expected: &str) -> Self {
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: picloud-bench\r\nAccept: */*\r\n\r\n"
        );
        Self { bytes: text.into_bytes(), expected: Expected::Body(expected.as_bytes().to_vec()) }
    }

    /// A POST that is to be accepted and done later.
    pub(crate) fn accepted(host: &str, path: &str, body: &str) -> Self {
        let text = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: picloud-bench\r\nAccept: */*\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Self { bytes: text.into_bytes(), expected: Expected::Accepted }
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latency: Histogram,
}

impl Measured {
    pub(crate) fn per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }
}

/// Asks on so many connections for so long. An answer that is wrong, late or missing is an error:
/// a fast server that answers wrongly is not fast.
pub(crate) fn run(
    address: SocketAddr,
    request: &Request,
    connections: usize,
    duration: Duration,
) -> anyhow::Result<Measured> {
    run_in_turn(address, std::slice::from_ref(request), connections, duration)
}

/// The same, with several requests, each thread asking one after the other.
pub(crate) fn run_in_turn(
    address: SocketAddr,
    requests: &[Request],
    connections: usize,
    duration: Duration,
) -> anyhow::Result<Measured> {
    ensure!(!requests.is_empty(), "there is nothing to ask");
    // One thread drives what two cores can serve; on larger machines it takes more.
    let threads = (crate::machine::cores() / 2).clamp(1, connections);
    let started = Instant::now();
    let shares = (0..threads).map(|index| connections / threads + usize::from(index < connections % threads));
    let parts: Vec<anyhow::Result<Part>> = std::thread::scope(|scope| {
        let handles: Vec<_> =
            shares.map(|share| scope.spawn(move || drive(address, requests, share, duration))).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap_or_else(|_| bail!("a client thread failed")))
            .collect()
    });
    let elapsed = started.elapsed();
    let mut latency = Histogram::default();
    for part in parts {
        let Part { latency: of_part, wrong } = part?;
        ensure!(
            wrong.is_empty(),
            "{} of {} answers were wrong, the first: {}",
            wrong.count,
            of_part.count() + wrong.count,
            wrong.first
        );
        latency.merge(&of_part);
    }
    ensure!(latency.count() > 0, "no request was answered");
    Ok(Measured { requests: latency.count(), elapsed, latency })
}

/// One thread's share.
struct Part {
    latency: Histogram,
    wrong: Wrong,
}

#[derive(Default)]
struct Wrong {
    count: u64,
    first: String,
}

impl Wrong {
    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn add(&mut self, what: String) {
        if self.count == 0 {
            self.first = what;
        }
        self.count += 1;
    }
}

fn drive(
    address: SocketAddr,
    requests: &[Request],
    connections: usize,
    duration: Duration,
) -> anyhow::Result<Part> {
    let mut poll = Poll::new()?;
    let mut open = Vec::with_capacity(connections);
    for index in 0..connections {
        let mut connection = Connection::open(address).context("cannot connect")?;
        poll.registry().register(&mut connection.stream, Token(index), Interest::READABLE)?;
        open.push(connection);
    }
    let mut part = Part { latency: Histogram::default(), wrong: Wrong::default() };
    let until = Instant::now() + duration;
    let mut turn = requests.iter().cycle();
    let mut next = || turn.next().context("the requests never end");
    let mut expected = Vec::with_capacity(open.len());
    for connection in &mut open {
        let request = next()?;
        connection.ask(&request.bytes)?;
        expected.push(&request.expected);
    }
    let mut asked = open.len();
    let mut events = Events::with_capacity(connections.min(1_024));
    // What was asked before the end is waited for: leaving would cancel it in the server.
    while asked > 0 {
        poll.poll(&mut events, Some(SILENCE_MAX))?;
        ensure!(!events.is_empty(), "{asked} requests were not answered within {} s", SILENCE_MAX.as_secs());
        for event in &events {
            let Some(connection) = open.get_mut(event.token().0) else { continue };
            let Some(answer) = connection.read(expected[event.token().0])? else { continue };
            let now = Instant::now();
            part.latency.add(now - connection.asked_at);
            if let Err(what) = answer {
                part.wrong.add(what);
            }
            if now < until {
                let request = next()?;
                connection.ask(&request.bytes)?;
                expected[event.token().0] = &request.expected;
            } else {
                asked -= 1;
            }
        }
    }
    Ok(part)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Answers every request with the same bytes until its client leaves.
    fn server(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut buffer = [0; 1_024];
                    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
                        stream.write_all(answer).unwrap();
                    }
                });
            }
        });
        address
    }

    fn ask(answer: &'static [u8]) -> anyhow::Result<Measured> {
        run(server(answer), &Request::get("/", "hi"), 3, Duration::from_millis(20))
    }

    #[test]
    fn right_answers_are_counted_and_timed() {
        let measured = ask(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").unwrap();
        assert!(measured.requests >= 3);
        assert!(measured.latency.percentile(50.0) > Duration::ZERO);
        assert!(measured.per_second() > 0.0);
    }

    #[test]
    fn a_wrong_body_fails_the_run() {
        let error = ask(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nho").unwrap_err();
        assert!(error.to_string().contains("answers were wrong"), "{error}");
    }

    #[test]
    fn a_wrong_status_fails_the_run() {
        let error = ask(b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nhi").unwrap_err();
        assert!(error.to_string().contains("503"), "{error}");
    }

    #[test]
    fn two_answers_to_one_request_fail_the_run() {
        let twice =
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
        assert!(ask(twice).is_err());
    }
}
