//! Bodies without end, which the server has in memory until they are there whole.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::Arc;

use serde_json::json;

use super::super::Target;
use crate::harness::{NO_LIMITS, PASSWORD, Reply, TestApp, TestServer, eventually};

/// As little memory for bodies as there may be, of which one client has a quarter for those to one app. Clients have the
/// addresses that they say.
const SETTINGS: [(&str, &str); 2] =
    [("PICLOUD_BODY_MEMORY_MB", "64"), ("PICLOUD_TRUSTED_PROXIES", "127.0.0.0/8")];
/// Bodies of the default limit that have room in that.
const HELD: usize = 16;
const BODY_BYTES: usize = 1 << 20;
/// The longest ordinary body of the admin API, of which one person has half of all that memory in as many.
const ADMIN_BODY_BYTES: usize = 2 << 20;
/// The longest body that has room for nothing.
const SMALL_BYTES: usize = 16 << 10;
const ATTACKER: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

/// Begins a request and sends all of its body but the last byte, unless it is refused before.
fn hold(app: &TestApp<'_>) -> TcpStream {
    let host = &app.host;
    let head = format!(
        "POST /take HTTP/1.1\r\nhost: {host}\r\nx-forwarded-for: {ATTACKER}\r\ncontent-type: text/plain\r\n"
    );
    begin(app.server, &head, BODY_BYTES)
}

/// The same to the admin API.
fn hold_as(server: &TestServer, bearer: &str, client: &str, further: &str) -> TcpStream {
    let head = format!(
        "POST /api/v1/admin/api-keys HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: {client}\r\n\
         authorization: {bearer}\r\ncontent-type: application/json\r\n{further}"
    );
    begin(server, &head, ADMIN_BODY_BYTES)
}

fn begin(server: &TestServer, head: &str, bytes: usize) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.write_all(format!("{head}content-length: {bytes}\r\n\r\n").as_bytes()).unwrap();
    let _ = stream.write_all(&vec![b' '; bytes - 1]);
    stream.set_nonblocking(true).unwrap();
    stream
}

/// Whether it was answered or closed.
fn is_over(stream: &TcpStream) -> bool {
    !stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

fn post(app: &TestApp<'_>, client: &str, bytes: usize) -> Reply {
    let headers = [("content-type", "text/plain"), ("x-forwarded-for", client)];
    app.client().send("POST", &app.host, "/take", &headers, &vec![b'x'; bytes])
}

#[test]
fn attack_bodies_that_never_end_leave_room_for_those_of_others() {
    let target = Target::on("–", Arc::new(TestServer::start_with(&SETTINGS)));
    let [attacked, other] = [(), ()].map(|()| target.server.app());
    for app in [&attacked, &other] {
        app.serve("take", "ctx.request.body_raw.len()", &NO_LIMITS);
        assert_eq!(post(app, ATTACKER, SMALL_BYTES + 1).is(200).json(), SMALL_BYTES + 1);
    }
    let mut held: Vec<_> = (0..HELD).map(|_| hold(&attacked)).collect();
    let refused = eventually("all of them are in memory", || {
        // One whose end was still on its way may have been refused for what this asked before.
        for stream in held.iter_mut().filter(|stream| is_over(stream)) {
            *stream = hold(&attacked);
        }
        Some(post(&attacked, ATTACKER, SMALL_BYTES + 1)).filter(|reply| reply.status != 200)
    });
    target.answers("one body more", &refused, &[503]);
    refused.is_problem("overloaded");
    assert_eq!(refused.header("retry-after"), "1");
    for (name, app, client, bytes) in [
        ("a small body", &attacked, ATTACKER, SMALL_BYTES),
        ("another client of the app", &attacked, OTHER, BODY_BYTES),
        ("the same client, to another app", &other, ATTACKER, BODY_BYTES),
        ("others, to another app", &other, OTHER, BODY_BYTES),
    ] {
        let reply = post(app, client, bytes);
        target.answers(name, &reply, &[200]);
        assert_eq!(reply.json(), bytes);
    }
    drop(held);
    eventually("who leaves makes room", || {
        Some(post(&attacked, ATTACKER, BODY_BYTES)).filter(|reply| reply.status == 200)
    });
    target.ends_unharmed();
}

/// A request to the admin API with a body of so many bytes.
fn post_as(server: &TestServer, bearer: &str, path: &str, body: &str, bytes: usize) -> Reply {
    let headers =
        [("authorization", bearer), ("content-type", "application/json"), ("x-forwarded-for", ATTACKER)];
    let body = format!("{body}{}", " ".repeat(bytes - body.len()));
    server.client.send("POST", "localhost", &format!("/api/v1/admin{path}"), &headers, body.as_bytes())
}

#[test]
fn attack_bodies_to_the_admin_api_that_never_end_leave_room_for_those_of_others() {
    let target = Target::on("–", Arc::new(TestServer::start_with(&SETTINGS)));
    let server = &target.server;
    let mallory = json!({ "username": "mallory", "password": PASSWORD });
    server.admin("POST", "/users", &mallory).is(201);
    let token = server.admin("POST", "/auth/login", &mallory).is(200).json()["token"].clone();
    let bearer = format!("Bearer {}", token.as_str().unwrap());
    // Each from an address of its own, half of them with a key.
    let next = |number: usize| {
        let further =
            if number.is_multiple_of(2) { String::new() } else { format!("idempotency-key: {number}\r\n") };
        hold_as(server, &bearer, &format!("198.51.100.{number}"), &further)
    };
    let mut held: Vec<_> = (0..HELD).map(next).collect();
    let key = json!({ "name": "ci", "scopes": ["app:read"] }).to_string();
    let refused = eventually("all of them are in memory", || {
        for (number, stream) in held.iter_mut().enumerate().filter(|(_, stream)| is_over(stream)) {
            *stream = next(number);
        }
        // Asks for nothing: whoever has made 100 keys while those arrive may have no other.
        Some(post_as(server, &bearer, "/api-keys", "{}", SMALL_BYTES + 1)).filter(|reply| reply.status == 503)
    });
    target.answers("one body more", &refused, &[503]);
    refused.is_problem("overloaded");
    assert_eq!(refused.header("retry-after"), "1");
    let small = post_as(server, &bearer, "/api-keys", &key, SMALL_BYTES);
    target.answers("a small body", &small, &[201]);
    let app = json!({ "slug": "blog" }).to_string();
    let other = post_as(server, &server.bearer(), "/apps", &app, ADMIN_BODY_BYTES);
    target.answers("another person at the same address", &other, &[201]);
    drop(held);
    eventually("who leaves makes room", || {
        Some(post_as(server, &bearer, "/api-keys", &key, ADMIN_BODY_BYTES))
            .filter(|reply| reply.status == 201)
    });
    target.ends_unharmed();
}
