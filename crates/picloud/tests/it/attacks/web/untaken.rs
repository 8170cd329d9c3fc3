//! Answers that nobody takes, which the server has in memory until somebody does.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::super::Target;
use super::wire::{END_HEADERS, END_STREAM, HEADERS, PING, SETTINGS, frame, head_to, literal};
use crate::harness::{NO_LIMITS, Reply, TestApp, TestServer, eventually, process};

/// As little memory for answers as there may be, of which one client has a quarter for those of one app. Clients have the
/// addresses that they say.
const SETTINGS_OF_SERVER: [(&str, &str); 2] =
    [("PICLOUD_BODY_MEMORY_MB", "64"), ("PICLOUD_TRUSTED_PROXIES", "127.0.0.0/8")];
/// Answers that have room in that.
const HELD: usize = 16;
const CONNECTIONS: usize = 2;
/// As many as a connection may have.
const STREAMS: u32 = 100;
const ATTACKER: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";
const MUCH: &str = "let s = \"\"; s.pad(1000000, 'x'); s";
/// The status of an answer that is 200, as HPACK has it.
const OK: u8 = 0x88;
const ACK: u8 = 1;
/// When a connection must be over; the server waits for 30 s.
const OVER: Duration = Duration::from_secs(45);

/// A client that asks for much and lets nothing of it be sent. Whatever else comes is read, and each ping is answered.
struct Greedy {
    /// When the server ended the connection; nothing if it did not.
    reader: JoinHandle<Option<Instant>>,
}

impl Greedy {
    fn at(app: &TestApp<'_>, answers: Sender<bool>) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", app.server.port)).unwrap();
        stream.set_read_timeout(Some(OVER)).unwrap();
        let incoming = stream.try_clone().unwrap();
        let reader = std::thread::spawn(move || read(incoming, &answers));
        // SETTINGS_INITIAL_WINDOW_SIZE.
        let no_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
        let head = [head_to(&app.host, "GET", "/much"), literal("x-forwarded-for", ATTACKER)].concat();
        let requests =
            (0..STREAMS).flat_map(|number| frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &head));
        let opening = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &no_window[..]].concat();
        stream.write_all(&opening.into_iter().chain(requests).collect::<Vec<u8>>()).unwrap();
        Self { reader }
    }
}

/// Says of each answer whether it is 200.
fn read(mut stream: TcpStream, answers: &Sender<bool>) -> Option<Instant> {
    let since = Instant::now();
    let mut head = [0; 9];
    while since.elapsed() < OVER && stream.read_exact(&mut head).is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        if stream.read_exact(&mut payload).is_err() {
            break;
        }
        match (head[3], head[4]) {
            (HEADERS, _) => answers.send(payload[0] == OK).unwrap(),
            (PING, 0) => {
                let _ = stream.write_all(&frame(PING, ACK, 0, &payload));
            }
            _ => {}
        }
    }
    (since.elapsed() < OVER).then(Instant::now)
}

fn get(app: &TestApp<'_>, client: &str) -> Reply {
    app.client().send("GET", &app.host, "/much", &[("x-forwarded-for", client)], b"")
}

/// Takes 30 s, the time that the server waits.
#[test]
fn attack_answers_that_nobody_takes_leave_room_for_those_of_others_and_are_not_kept() {
    let target = Target::on("–", Arc::new(TestServer::start_with(&SETTINGS_OF_SERVER)));
    let app = target.server.app();
    app.serve("much", MUCH, &NO_LIMITS);
    get(&app, ATTACKER).is(200);
    let before = process::resident_kib(target.server.pid());
    let (answers, answered) = channel();
    let greedy: Vec<_> = (0..CONNECTIONS).map(|_| Greedy::at(&app, answers.clone())).collect();
    drop(answers);
    let asked = CONNECTIONS * STREAMS as usize;
    let taken = answered.iter().take(asked).filter(|is_taken| *is_taken).count();
    let asked_at = Instant::now();
    let grown = process::resident_kib(target.server.pid()).saturating_sub(before);
    target.row("answers that nobody takes", "16 in memory", &format!("{taken} of {asked}, {grown} KiB"));
    assert_eq!(taken, HELD);
    target.answers("one answer more", &get(&app, ATTACKER), &[503]);
    let other = get(&app, OTHER);
    target.answers("another client", &other, &[200]);
    assert!(other.body.len() >= 1_000_000);
    for one in greedy {
        let ended_at = one.reader.join().unwrap().expect("the server ends the connection");
        target.took("the end of the connection", "30 s", ended_at.duration_since(asked_at));
    }
    eventually("what they held is free", || Some(get(&app, ATTACKER)).filter(|reply| reply.status == 200));
    target.ends_unharmed();
}
