//! The world that scripts send requests to: a web server on the loopback that answers honestly on
//! some paths and attacks whoever asks on others.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};

pub(crate) struct World {
    pub(crate) address: SocketAddr,
    /// Bytes of bodies that went out.
    pub(crate) sent: Arc<AtomicU64>,
    /// Requests that came in.
    pub(crate) requests: Arc<AtomicU64>,
    /// Most of them that were on `/slow` at the same time.
    pub(crate) most_at_once: Arc<AtomicU64>,
    inboxes: Inboxes,
    ends: Arc<AtomicBool>,
}

impl World {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let world = Self {
            address,
            sent: Arc::default(),
            requests: Arc::default(),
            most_at_once: Arc::default(),
            inboxes: Inboxes::default(),
            ends: Arc::default(),
        };
        let (sent, requests, ends) =
            (Arc::clone(&world.sent), Arc::clone(&world.requests), Arc::clone(&world.ends));
        let inboxes = world.inboxes.clone();
        let busy = Busy { now: Arc::default(), most: Arc::clone(&world.most_at_once) };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let (sent, requests, ends) = (Arc::clone(&sent), Arc::clone(&requests), Arc::clone(&ends));
                let (busy, inboxes) = (busy.clone(), inboxes.clone());
                std::thread::spawn(move || {
                    let mut visitor = Visitor { stream, sent, ends, busy, inboxes };
                    while visitor.answer(&requests).is_some() {}
                    let _ = visitor.stream.shutdown(Shutdown::Both);
                });
            }
        });
        world
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What `/inbox/…` has taken.
    pub(crate) fn taken(&self, path: &str) -> Vec<Value> {
        self.inboxes.0.lock().unwrap().get(path).map(|inbox| inbox.taken.clone()).unwrap_or_default()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// By path: what takes something in, after it has been down for a while.
#[derive(Clone, Default)]
struct Inboxes(Arc<Mutex<HashMap<String, Inbox>>>);

#[derive(Default)]
struct Inbox {
    refused: u64,
    taken: Vec<Value>,
}

impl Inboxes {
    /// Takes a request in, unless it is one of the first so many.
    fn take(&self, path: &str, failures: &str, request: Value) -> bool {
        let mut inboxes = self.0.lock().unwrap();
        let inbox = inboxes.entry(path.to_owned()).or_default();
        let is_up = inbox.refused >= failures.parse().unwrap_or_default();
        if is_up {
            inbox.taken.push(request);
        } else {
            inbox.refused += 1;
        }
        is_up
    }
}

/// How many requests are being thought about.
#[derive(Clone)]
struct Busy {
    now: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
}

impl Busy {
    /// As long as it takes to see who comes at the same time.
    fn think(&self) {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(10));
        self.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection.
struct Visitor {
    stream: TcpStream,
    sent: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    busy: Busy,
    inboxes: Inboxes,
}

impl Visitor {
    /// Answers one request; none when the connection is over.
    fn answer(&mut self, requests: &AtomicU64) -> Option<()> {
        let mut reader = BufReader::new(self.stream.try_clone().ok()?);
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        let mut words = line.split_whitespace();
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let headers = headers(&mut reader)?;
        let length = headers.get("content-length").and_then(Value::as_str).map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        requests.fetch_add(1, Ordering::Relaxed);
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/echo" => {
                let body = String::from_utf8_lossy(&body);
                let echo = json!({ "method": method, "query": query, "headers": headers, "body": body });
                let text = echo.to_string();
                let sent = if method == "HEAD" { "" } else { &text };
                self.write(&format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{sent}",
                    text.len()
                ))
            }
            _ if path.starts_with("/inbox/") => {
                let request = json!({ "headers": headers, "body": String::from_utf8_lossy(&body) });
                let is_taken = self.inboxes.take(path, query, request);
                let status = if is_taken { "202 Accepted" } else { "503 Service Unavailable" };
                self.write(&format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"))
            }
            "/to" => {
                self.write(&format!("HTTP/1.1 302 Found\r\nlocation: {query}\r\ncontent-length: 0\r\n\r\n"))
            }
            "/slow" => {
                self.busy.think();
                self.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            }
            "/loop" => self.write("HTTP/1.1 302 Found\r\nlocation: /loop\r\ncontent-length: 0\r\n\r\n"),
            // Always to somewhere where nobody has been.
            "/chain" => {
                let next = query.parse::<u64>().unwrap_or_default() + 1;
                self.write(&format!(
                    "HTTP/1.1 302 Found\r\nlocation: /chain?{next}\r\ncontent-length: 0\r\n\r\n"
                ))
            }
            "/bomb" => self.bomb(),
            // So many bytes.
            "/sized" => {
                let body = "x".repeat(query.parse().unwrap_or_default());
                self.write(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
            }
            // Packed as was asked for; with a status in the query, said to be and without a body.
            "/gzip" => self.gzip(&method, query),
            // Packed in ways that nobody asked for.
            "/brotli" => self.packed("br"),
            "/zstd" => self.packed("zstd"),
            "/huge" => self.forever("HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 64 << 10], Duration::ZERO),
            "/drip" => self.forever("HTTP/1.1 200 OK\r\n\r\n", b".", Duration::from_secs(1)),
            "/headers" => self.forever("HTTP/1.1 200 OK\r\n", b"x-more: and more\r\n", Duration::ZERO),
            "/header" => self.forever("HTTP/1.1 200 OK\r\nx-long: ", &[b'x'; 4096], Duration::ZERO),
            "/silent" => self.forever("", b"", Duration::from_secs(1)),
            _ => self.write("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"),
        }
    }

    /// 10 GiB of zeros in 10 MiB.
    fn bomb(&mut self) -> Option<()> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&vec![0; 1 << 20]).unwrap();
        let member = gzip.finish().unwrap();
        self.write("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n")?;
        (0..10 << 10).try_for_each(|_| self.write_bytes(&member))?;
        None
    }

    fn gzip(&mut self, method: &str, status: &str) -> Option<()> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(b"what was packed").unwrap();
        let page = gzip.finish().unwrap();
        let (status, page) = if status.is_empty() { ("200", page) } else { (status, Vec::new()) };
        self.write(&format!(
            "HTTP/1.1 {status} Status\r\ncontent-type: text/plain\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            page.len()
        ))?;
        if method == "HEAD" { Some(()) } else { self.write_bytes(&page) }
    }

    /// Something without end, said to be packed.
    fn packed(&mut self, coding: &str) -> Option<()> {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\n\r\n");
        self.forever(&head, &[0; 64 << 10], Duration::ZERO)
    }

    fn forever(&mut self, head: &str, piece: &[u8], pause: Duration) -> Option<()> {
        self.write(head)?;
        while !self.ends.load(Ordering::Relaxed) {
            self.write_bytes(piece)?;
            std::thread::sleep(pause);
        }
        None
    }

    fn write(&mut self, text: &str) -> Option<()> {
        self.write_bytes(text.as_bytes())
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.write_all(bytes).ok()?;
        self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Some(())
    }
}

fn headers(reader: &mut BufReader<TcpStream>) -> Option<Map<String, Value>> {
    let mut headers = Map::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { return Some(headers) };
        headers.insert(name.to_lowercase(), value.trim().into());
    }
}
