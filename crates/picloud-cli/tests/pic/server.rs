//! A small HTTP server with canned answers, which remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Answers for one `METHOD /path`, the last one for good.
struct Answer {
    target: String,
    status: u16,
    content_type: &'static str,
    body: String,
}

#[derive(Default)]
pub(crate) struct Server {
    answers: Vec<Answer>,
}

pub(crate) struct Running {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// What `METHOD /path?query` below the admin API is answered. Given several times, the answers
    /// are used up in order; a target without one is a 404 problem.
    pub(crate) fn on(mut self, target: &str, status: u16, body: Value) -> Self {
        let content_type = if status < 400 { "application/json" } else { "application/problem+json" };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.answers.push(Answer { target: target.to_owned(), status, content_type, body });
        self
    }

    pub(crate) fn on_text(
        mut self,
        target: &str,
        status: u16,
        content_type: &'static str,
        body: &str,
    ) -> Self {
        self.answers.push(Answer { target: target.to_owned(), status, content_type, body: body.to_owned() });
        self
    }

    /// Ends with the test's process: its thread waits in `accept` and holds nothing.
    pub(crate) fn start(self) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let mut answers = self.answers;
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&stream) else { continue };
                let answer = take(&mut answers, &request.line);
                seen.lock().unwrap().push(request);
                // The client may have gone away; that is its own affair.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Running { url, asked }
    }
}

impl Running {
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The `METHOD /path` lines, in order.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

fn take(answers: &mut Vec<Answer>, line: &str) -> String {
    let is_it = |answer: &Answer| answer.target == line;
    let more = answers.iter().filter(|answer| is_it(answer)).count();
    match answers.iter().position(is_it) {
        Some(first) if more > 1 => response(&answers.remove(first)),
        Some(first) => response(&answers[first]),
        None => {
            let body =
                problem(404, "not_found", "There is nothing here", &format!("no canned answer for {line}"));
            let content_type = "application/problem+json";
            response(&Answer { target: String::new(), status: 404, content_type, body: body.to_string() })
        }
    }
}

fn response(answer: &Answer) -> String {
    // A stream has no length: it ends with the connection.
    let length = match answer.content_type {
        "text/event-stream" => String::new(),
        _ => format!("content-length: {}\r\n", answer.body.len()),
    };
    let (status, kind, body) = (answer.status, answer.content_type, &answer.body);
    format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{length}connection: close\r\n\r\n{body}")
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut words = line.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    let line = format!("{method} {}", path.strip_prefix("/api/v1/admin")?);
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    Some(Asked { line, headers, body })
}

pub(crate) fn problem(status: u16, code: &str, title: &str, detail: &str) -> Value {
    json!({
        "type": format!("/api/v1/errors/{code}"), "title": title, "status": status, "detail": detail,
        "code": code, "request_id": "req-1", "fault": "caller", "retry": "safe"
    })
}
