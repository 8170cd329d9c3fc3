//! Requests that cannot be served, and what a stranger is told.

use std::io::Write;
use std::net::TcpStream;

use serde_json::json;

use crate::harness::{NO_LIMITS, TestServer};

#[test]
fn an_unknown_host_path_or_method_is_a_problem_of_its_own() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("one", "1", &NO_LIMITS);
    for method in ["GET", "PUT"] {
        app.admin("POST", "/routes", &json!({ "method": method, "path": "/one", "script": "one" })).is(201);
    }
    for host in ["nobody.localhost", "example.org", "a.b.localhost", "x"] {
        server.client.get(host, "/one").is(404).is_problem("unknown_host");
    }
    app.get("/two").is(404).is_problem("no_route");
    app.get("/one/more").is(404).is_problem("no_route");
    let refused = server.client.send("DELETE", &app.host, "/one", &[], b"");
    refused.is(405).is_problem("method_not_allowed");
    let mut allowed: Vec<_> = refused.header("allow").split(", ").collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "PUT"]);
}

#[test]
fn a_reserved_path_never_reaches_a_script() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("all", "\"script\"", &NO_LIMITS);
    app.route("/*", "all");
    assert_eq!(app.get("/apis").is(200).json(), "script");
    for path in ["/api/v1/nothing", "/healthz", "/api/v1/admin/apps"] {
        assert!(!String::from_utf8_lossy(&app.get(path).body).contains("script\""), "{path}");
    }
    app.get("/api/v1/nothing").is(404).is_problem("not_found");
}

#[test]
fn a_body_over_the_routes_limit_is_refused_declared_or_chunked() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("take", "ctx.request.body_raw.len()", &NO_LIMITS);
    let route = json!({ "path": "/take", "script": "take", "body_limit_bytes": 1000 });
    app.admin("POST", "/routes", &route).is(201);
    assert_eq!(app.post("/take", "text/plain", &[b'x'; 1000]).is(200).json(), 1000);
    app.post("/take", "text/plain", &[b'x'; 1001]).is(413).is_problem("body_too_large");

    let head = format!("POST /take HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", app.host);
    let declared = server.client.raw(format!("{head}content-length: 99999999999\r\n\r\n").as_bytes());
    assert!(declared.starts_with("HTTP/1.1 413") && declared.contains("body_too_large"), "{declared}");
    let chunk = format!("1f4\r\n{}\r\n", "x".repeat(500));
    let chunked = |count| {
        let body = format!("{head}transfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(count));
        server.client.raw(body.as_bytes())
    };
    assert!(chunked(2).ends_with("1000"), "{}", chunked(2));
    assert!(chunked(3).starts_with("HTTP/1.1 413"), "{}", chunked(3));
}

#[test]
fn a_malformed_request_is_refused_and_the_server_goes_on() {
    let server = TestServer::shared();
    let many: String = (0..200).map(|n| format!("x-{n}: v\r\n")).collect();
    let long = "x".repeat(200_000);
    let requests = [
        ("no host", "GET /hello/pi HTTP/1.1\r\nconnection: close\r\n\r\n".to_owned(), "400"),
        ("two hosts", "GET / HTTP/1.1\r\nhost: localhost\r\nhost: b\r\nconnection: close\r\n\r\n".to_owned(), "400"),
        ("no http", "\0\x01\x02nonsense\r\n\r\n".to_owned(), "400"),
        ("200 headers", format!("GET / HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"), "431"),
        ("long header", format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n\r\n"), "431"),
        ("long address", format!("GET /{} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", "a".repeat(9_000)), "414"),
        ("two lengths", "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_owned(), "400"),
        ("bad length", "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n".to_owned(), "400"),
        ("bad chunk", "POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_owned(), "400"),
        ("many parameters", format!("GET /?{} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", "a&".repeat(1_000)), "400"),
    ];
    for (name, request, status) in requests {
        let answer = server.client.raw(request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{name}: {answer:.300}");
    }
    // A client that leaves in the middle of its own request.
    for request in ["GET /hello", "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50\r\n\r\nhalf"] {
        TcpStream::connect(("127.0.0.1", server.port)).unwrap().write_all(request.as_bytes()).unwrap();
    }
    server.client.get("localhost", "/hello/pi").is(200);
}

#[test]
fn a_source_that_does_not_compile_is_refused_with_its_position() {
    let server = TestServer::shared();
    let app = server.app();
    let reply = app.try_deploy("broken", "let a = 1;\nlet b = a +;\n", &NO_LIMITS);
    let problem = reply.is(422).is_problem("compile_error");
    assert_eq!((&problem["line"], &problem["column"]), (&json!(2), &json!(12)), "{problem}");
    assert_eq!(problem["source_line"], "let b = a +;");
    assert!(!problem["message"].as_str().unwrap().is_empty());
    app.admin("GET", "/scripts/broken", &NO_LIMITS).is(404).is_problem("not_found");
}

#[test]
fn a_limit_above_its_ceiling_is_refused_naming_field_value_and_ceiling() {
    let server = TestServer::shared();
    let app = server.app();
    for (field, value, ceiling) in [("memory_mb", 257, 256), ("timeout_ms", 300_001, 300_000)] {
        let problem = app.try_deploy("greedy", "1", &json!({ field: value })).is(422).json();
        assert_eq!((&problem["field"], &problem["value"]), (&json!(field), &json!(value)), "{problem}");
        assert_eq!(problem["ceiling"], ceiling, "{problem}");
    }
}

#[test]
fn a_stranger_does_not_learn_what_the_owner_does() {
    let server = TestServer::shared();
    let app = server.app();
    let source = "let key = \"s3cret\";\nlog::warn(\"l0gged\");\nthrow `no ${key} for you`;";
    let reply = app.run("leak", source, &NO_LIMITS);
    let problem = reply.is(500).is_problem("script_error");
    assert_eq!((&problem["fault"], &problem["retry"]), (&json!("script"), &json!("unsafe")));
    let text = reply.text();
    for secret in ["s3cret", "l0gged", "for you", "\"line\"", "\"column\""] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    let record = app.execution_of(&reply);
    assert_eq!(record["status"], "script_error");
    let error = &record["error"];
    assert_eq!((&error["line"], &error["column"]), (&json!(3), &json!(1)), "{record}");
    assert!(error["message"].as_str().unwrap().contains("no s3cret for you"), "{record}");
    assert_eq!(record["logs"][0]["message"], "l0gged");
}

#[test]
fn a_stranger_cannot_use_the_admin_api() {
    let server = TestServer::shared();
    for (path, headers) in [
        ("/api/v1/admin/apps", vec![]),
        ("/api/v1/admin/apps", vec![("authorization", "Bearer nonsense")]),
        ("/api/v1/admin/apps", vec![("authorization", "Basic YTpi")]),
        ("/api/v1/execute/0192f0c1-2b7e-7000-8000-000000000000", vec![]),
    ] {
        let reply = server.client.send("GET", "localhost", path, &headers, b"");
        reply.is(401).is_problem("unauthenticated");
    }
}

#[test]
fn a_body_announced_over_the_limit_is_refused_before_it_is_asked_for() {
    let server = TestServer::shared();
    let login = |length: usize| {
        server.client.raw(
            format!(
                "POST /api/v1/admin/auth/login HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                 content-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n{{}}"
            )
            .as_bytes(),
        )
    };
    let refused = login(3 << 20);
    assert!(refused.starts_with("HTTP/1.1 413 ") && refused.contains("body_too_large"), "{refused}");
    assert!(login(2).starts_with("HTTP/1.1 100 "));
}
