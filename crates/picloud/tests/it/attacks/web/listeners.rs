//! Listeners without end, who do nothing but be there.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use super::super::Target;
use super::wire::{END_HEADERS, END_STREAM, HEADERS, PING, SETTINGS, frame, head_to};
use crate::harness::{Listener, TestApp, eventually};

const PATH: &str = "/realtime/topics/news";
/// As many as may listen from one address, on connections with as many streams as one may have.
const CROWDS: [u32; 3] = [100, 100, 56];
/// The status of an answer that is 200, as HPACK has it.
const OK: u8 = 0x88;
const ACK: u8 = 1;
/// Twice the time between two heartbeats.
const SILENCE: Duration = Duration::from_secs(30);

fn with_news(target: &Target) -> TestApp<'_> {
    let app = target.server.app();
    let topic = json!({ "name": "news", "external": true, "auth_mode": "public" });
    app.admin("POST", "/topics", &topic).is(201);
    app
}

/// Some who listen, by one connection; they leave when it is dropped.
struct Crowd {
    stream: TcpStream,
    reader: Option<JoinHandle<()>>,
}

impl Crowd {
    /// All are let in before they are here.
    #[track_caller]
    fn at(app: &TestApp<'_>, streams: u32) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", app.server.port)).unwrap();
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        let (answers, answered) = channel();
        let incoming = stream.try_clone().unwrap();
        let reader = std::thread::spawn(move || read(incoming, &answers));
        let head = head_to(&app.host, "GET", PATH);
        let listening =
            (0..streams).flat_map(|number| frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &head));
        let opening = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &[])[..]].concat();
        stream.write_all(&opening.into_iter().chain(listening).collect::<Vec<u8>>()).unwrap();
        for number in 1..=streams {
            // An error when the connection is over before all have an answer.
            assert_eq!(answered.recv(), Ok(true), "answer {number}");
        }
        Self { stream, reader: Some(reader) }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Says of each answer whether it is 200, and shows that somebody is there, until the connection is over.
fn read(mut stream: TcpStream, answers: &Sender<bool>) {
    let mut head = [0; 9];
    while stream.read_exact(&mut head).is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        if stream.read_exact(&mut payload).is_err() {
            return;
        }
        let is_taken = match (head[3], head[4]) {
            (HEADERS, _) => answers.send(payload[0] == OK).is_ok(),
            (PING, 0) => stream.write_all(&frame(PING, ACK, 0, &payload)).is_ok(),
            _ => true,
        };
        if !is_taken {
            return;
        }
    }
}

#[test]
fn attack_listeners_without_end_are_refused_and_make_room_when_they_leave() {
    let target = Target::new("–");
    let [greedy, modest] = [with_news(&target), with_news(&target)];
    let mut crowds = CROWDS.map(|streams| Some(Crowd::at(&greedy, streams)));
    // The same address takes no place of another app either.
    for app in [&greedy, &modest] {
        let refused = app.get(PATH);
        target.answers("257 listeners of one address", &refused, &[503]);
        refused.is_problem("unavailable");
        assert_eq!(refused.header("retry-after"), "10");
    }
    crowds[0] = None;
    eventually("who leaves makes room", || Listener::try_to(&greedy, "news", &[]).ok());
    Listener::to(&modest, "news", &[]);
    drop(crowds);
    target.ends_unharmed();
}
