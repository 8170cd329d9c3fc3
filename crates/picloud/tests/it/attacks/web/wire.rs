//! HTTP/2 as no proper client speaks it: frames as bytes (RFC 9113), headers in the plainest form of
//! HPACK (RFC 7541).

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const CONTINUATION: u8 = 9;
const GOAWAY: u8 = 7;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// A server that lets nobody write for so long has no room left for them.
const STALLED: Duration = Duration::from_secs(2);
/// Longest wait for the end of a connection after the last byte was sent.
const END: Duration = Duration::from_secs(15);

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header that is written out and remembered nowhere.
pub(super) fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// The head of a request to the app `default`.
pub(super) fn head(method: &str, path: &str) -> Vec<u8> {
    head_to("localhost", method, path)
}

/// The head of a request to a host.
pub(super) fn head_to(host: &str, method: &str, path: &str) -> Vec<u8> {
    let parts = [(":method", method), (":scheme", "http"), (":path", path), (":authority", host)];
    parts.iter().flat_map(|(name, value)| literal(name, value)).collect()
}

/// What became of a connection.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// The server ended it.
    pub(super) is_closed: bool,
    /// The reason it gave; it may be lost with what was on its way.
    pub(super) goaway: Option<u32>,
    /// Streams that were answered, and such that were refused.
    pub(super) answers: usize,
    pub(super) resets: usize,
}

/// A connection whose other side is read all the while, so that the server can always answer.
pub(super) struct Wire {
    stream: TcpStream,
    reader: JoinHandle<Fate>,
}

impl Wire {
    pub(super) fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_write_timeout(Some(STALLED)).unwrap();
        stream.set_read_timeout(Some(END)).unwrap();
        let answers = stream.try_clone().unwrap();
        let mut wire = Self { stream, reader: std::thread::spawn(move || read(answers)) };
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        wire.send(&frame(SETTINGS, 0, 0, &[]));
        wire
    }

    /// Sends what the server takes, and answers whether it takes more.
    pub(super) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Waits for the server to end it.
    pub(super) fn fate(self) -> Fate {
        self.reader.join().unwrap()
    }

    /// Leaves, after the server had every chance to end it.
    pub(super) fn leave(self) -> Fate {
        let _ = self.stream.shutdown(Shutdown::Write);
        self.fate()
    }
}

fn read(mut stream: TcpStream) -> Fate {
    let mut fate = Fate::default();
    let mut head = [0; 9];
    loop {
        if let Err(error) = stream.read_exact(&mut head) {
            let is_open =
                matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
            return Fate { is_closed: !is_open, ..fate };
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        if stream.read_exact(&mut payload).is_err() {
            return Fate { is_closed: true, ..fate };
        }
        match head[3] {
            HEADERS => fate.answers += 1,
            RST_STREAM => fate.resets += 1,
            GOAWAY => fate.goaway = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap())),
            _ => {}
        }
    }
}
