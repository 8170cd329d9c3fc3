//! Somebody outside who listens to a topic of an app.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::TestApp;

/// Twice the time between two heartbeats, at which some streams find out that they are over.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server-sent event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// `message` unless it says otherwise.
    pub(crate) name: String,
    pub(crate) id: Option<u64>,
    pub(crate) data: Value,
}

/// A stream of events, which is over when the server ends it. One that is cut off, or silent for two
/// heartbeats, fails the test.
pub(crate) struct Listener {
    head: String,
    body: BufReader<Chunks>,
    /// What a browser comes again with: the last id, of an event or alone.
    pub(crate) last_id: Option<u64>,
}

impl Listener {
    /// One whom the app lets in.
    #[track_caller]
    pub(crate) fn to(app: &TestApp<'_>, topic: &str, headers: &[(&str, &str)]) -> Self {
        Self::try_to(app, topic, headers).unwrap_or_else(|refusal| panic!("{refusal}"))
    }

    /// What the server says to who is not let in is the error.
    pub(crate) fn try_to(app: &TestApp<'_>, topic: &str, headers: &[(&str, &str)]) -> Result<Self, String> {
        let mut stream = TcpStream::connect(("127.0.0.1", app.server.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!("GET /realtime/topics/{topic} HTTP/1.1\r\nhost: {}\r\n{headers}\r\n", app.host);
        stream.write_all(request.as_bytes()).unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(stream.read_line(&mut head).unwrap() > 0, "there is no answer: {head}");
        }
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(head);
        }
        let body = BufReader::new(Chunks { stream, left: 0, is_over: false });
        let listener = Self { head, body, last_id: None };
        assert_eq!(listener.header("content-type"), "text/event-stream", "{}", listener.head);
        assert_eq!(listener.header("transfer-encoding"), "chunked", "{}", listener.head);
        Ok(listener)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }
}

impl Iterator for Listener {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let (mut name, mut id, mut data) = ("message".to_owned(), None::<u64>, None::<Value>);
        loop {
            let mut line = String::new();
            if self.body.read_line(&mut line).unwrap() == 0 {
                assert!(data.is_none(), "the stream ended within an event");
                return None;
            }
            let line = line.trim_end_matches(['\r', '\n']);
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut name),
                "id" => {
                    id = Some(value.parse().unwrap());
                    self.last_id = id;
                }
                "data" => {
                    let json: Value = serde_json::from_str(value).unwrap();
                    assert!(data.replace(json).is_none(), "an event has two lines of data");
                }
                // An empty line ends an event, if there is one. What begins with a colon is a comment.
                _ if line.is_empty() && data.is_some() => return data.map(|data| Event { name, id, data }),
                // What is no event for want of data leaves nothing to the next.
                _ if line.is_empty() => (name, id) = ("message".to_owned(), None),
                _ => assert!(field.is_empty(), "{line:?} is no line of an event"),
            }
        }
    }
}

/// A body in chunks. An end that the server did not mean is an error.
struct Chunks {
    stream: BufReader<TcpStream>,
    /// Bytes of the chunk that are still to come.
    left: usize,
    is_over: bool,
}

impl Chunks {
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if line.ends_with("\r\n") { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.is_over {
            self.left = usize::from_str_radix(self.line()?.trim_end(), 16).map_err(io::Error::other)?;
            self.is_over = self.left == 0;
        }
        if self.is_over {
            return Ok(0);
        }
        let room = buffer.len().min(self.left);
        let count = self.stream.read(&mut buffer[..room])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count;
        if self.left == 0 {
            // A chunk is followed by the end of a line.
            self.line()?;
        }
        Ok(count)
    }
}
