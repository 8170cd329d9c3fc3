//! The first thing anybody sees.

use serde_json::{Value, json};

use crate::harness::{NO_LIMITS, TestServer};

#[test]
fn a_new_server_says_hello_on_localhost_and_on_the_default_apps_host() {
    let server = TestServer::shared();
    let port = server.port;
    for host in ["localhost", "127.0.0.1", "default.localhost", &format!("LocalHost:{port}")] {
        assert_eq!(server.client.get(host, "/hello/pi").is(200).text(), "Hello, pi!\n", "{host}");
        assert_eq!(server.client.get(host, "/").is(200).text(), "Hello, world!\n", "{host}");
    }
}

#[test]
fn an_app_answers_on_its_own_host_only() {
    let server = TestServer::shared();
    let (one, two) = (server.app(), server.app());
    one.serve("who", "`one ${ctx.app}`", &NO_LIMITS);
    two.serve("who", "`two ${ctx.app}`", &NO_LIMITS);
    assert_eq!(one.get("/who").is(200).json(), json!(format!("one {}", one.slug)));
    assert_eq!(two.get("/who").is(200).json(), json!(format!("two {}", two.slug)));
    server.client.get("localhost", "/who").is(404).is_problem("no_route");
}

#[test]
fn head_is_get_without_the_body() {
    let server = TestServer::shared();
    let reply = server.client.send("HEAD", "localhost", "/hello/pi", &[], b"");
    reply.is(200);
    assert_eq!(reply.header("content-length"), "11");
    assert_eq!(reply.header("content-type"), "text/plain; charset=utf-8");
    assert!(reply.body.is_empty());
}

#[test]
fn every_answer_names_its_request() {
    let server = TestServer::shared();
    let ids: Vec<_> = (0..2)
        .map(|_| server.client.get("localhost", "/hello/pi").header("x-request-id").to_owned())
        .collect();
    assert!(!ids[0].is_empty() && ids[0] != ids[1], "{ids:?}");
}

#[test]
fn health_readiness_and_version_are_told() {
    let server = TestServer::shared();
    assert_eq!(server.client.get("localhost", "/healthz").is(200).text(), "ok\n");
    server.workers();
    assert_eq!(server.client.get("localhost", "/readyz").is(200).text(), "database ok\nworkers 2\n");
    let version = server.client.get("localhost", "/version").is(200).json();
    for part in ["product", "sdk", "api", "schema", "wire"] {
        assert_ne!(version[part], Value::Null, "{part}: {version}");
    }
}
