//! Clients that take their time, to keep what waits for them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use super::super::Target;
use crate::harness::NO_LIMITS;

/// Between two bytes; the server allows 10 s for a head, and then 1 KiB/s for a body.
const PACE: Duration = Duration::from_millis(500);
/// When every one of them must be over.
const OVER: Duration = Duration::from_secs(20);

/// Sends a beginning and then byte after byte of the rest; answers what the server said, and after how
/// long it ended the connection.
fn trickle(port: u16, beginning: &str, mut rest: impl Iterator<Item = u8>) -> (String, Duration) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PACE)).unwrap();
    let since = Instant::now();
    let _ = stream.write_all(beginning.as_bytes());
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while since.elapsed() < OVER {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let _ = rest.next().map(|byte| stream.write_all(&[byte]));
            }
            Err(_) => break,
        }
    }
    (String::from_utf8_lossy(&answer).into_owned(), since.elapsed())
}

#[test]
fn attack_53_clients_that_take_their_time() {
    let target = Target::new("53");
    let app = target.server.app();
    app.deploy("take", "ctx.request.body_raw.len()", &NO_LIMITS);
    app.admin("POST", "/routes", &json!({ "path": "/take", "script": "take" })).is(201);
    let post = |host: &str, path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: 9000\r\n\r\n"
        )
    };
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let slow = [
        ("a silent connection", String::new(), "", ""),
        ("half a preface", preface[..9].to_owned(), "", ""),
        ("a preface by bytes", String::new(), preface, ""),
        (
            "slowloris",
            "GET /hello/pi HTTP/1.1\r\nhost: localhost\r\n".to_owned(),
            "x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy",
            "",
        ),
        (
            "R-U-Dead-Yet, a route",
            post(&app.host, "/take"),
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "408",
        ),
        (
            "R-U-Dead-Yet, a login",
            post("localhost", "/api/v1/admin/auth/login"),
            "{                                           ",
            "408",
        ),
    ];
    let port = target.server.port;
    let running = slow.map(|(name, beginning, rest, status)| {
        (name, status, std::thread::spawn(move || trickle(port, &beginning, rest.bytes())))
    });
    for (name, status, thread) in running {
        let (answer, took) = thread.join().unwrap();
        let seen = answer.split(' ').nth(1).unwrap_or("closed").to_owned();
        target.row(name, "closed, or 408", &format!("{seen} after {:.0} s", took.as_secs_f64()));
        assert!(took < OVER, "{name}: still open after {took:?}: {answer}");
        assert!(status.is_empty() || seen == status, "{name}: {answer}");
        assert!(!answer.contains(" 200 "), "{name}: {answer}");
    }
    target.ends_unharmed();
}
