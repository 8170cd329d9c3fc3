//! What those see who run the server: metrics, readiness, settings, and help for who forgot a password.

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{ADMIN, Disk, NO_LIMITS, PASSWORD, TestServer};

#[test]
fn metrics_count_what_ran_without_naming_whose_it_was() {
    let server = TestServer::start();
    let app = server.app();
    app.serve("a_script_name", "1", &NO_LIMITS);
    app.serve("bad", "throw \"no\"", &NO_LIMITS);
    app.get("/a_script_name").is(200);
    app.get("/bad").is(500);
    server.client.get("localhost", "/metrics").is(401).is_problem("unauthenticated");
    let bearer = server.bearer();
    let reply = server.client.send("GET", "localhost", "/metrics", &[("authorization", &bearer)], b"");
    assert!(reply.is(200).header("content-type").starts_with("application/openmetrics-text"));
    let text = reply.text();
    for line in [
        "picloud_executions_total{status=\"ok\"} 1",
        "picloud_executions_total{status=\"script_error\"} 1",
        "picloud_execution_duration_seconds_count 2",
        "picloud_workers_ready 2",
        "picloud_workers_lost_total 0",
        "picloud_database_connections_max 8",
        "# EOF",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    for number in ["picloud_process_resident_memory_bytes", "picloud_execution_fuel_total"] {
        let line = text.lines().find_map(|line| line.strip_prefix(number)).unwrap();
        assert!(line.trim().parse::<u64>().unwrap() > 0, "{number}{line}");
    }
    assert!(
        !text.contains("a_script_name") && !text.contains(&app.slug) && !text.contains("localhost"),
        "{text}"
    );
}

#[test]
fn systemd_is_told_when_the_server_is_ready_and_when_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut server = TestServer::start_with(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    let mut buffer = [0; 256];
    let mut heard = || {
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    };
    assert_eq!(heard(), "READY=1");
    server.client.get("localhost", "/readyz").is(200);
    server.signal(Signal::SIGTERM);
    assert_eq!(heard(), "STOPPING=1");
    assert_eq!(server.wait().code(), Some(0));
}

fn reset(server: &TestServer, arguments: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_picloud"))
        .args(["admin", "reset-password"])
        .args(arguments)
        .env_clear()
        .env("PICLOUD_DATA_DIR", server.disk.path().join("data"))
        .env("DATABASE_URL", server.disk.database_url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn who_runs_the_machine_can_give_a_new_password_while_the_server_runs() {
    let server = TestServer::start();
    let login = |password: &str| {
        let body = json!({ "username": ADMIN, "password": password });
        server.admin("POST", "/auth/login", &body)
    };
    let (is_done, text) = reset(&server, &[ADMIN], "");
    assert!(is_done, "{text}");
    server.admin("GET", "/auth/me", &Value::Null).is(401).is_problem("unauthenticated");
    login(text.lines().nth(1).unwrap()).is(200);

    let (is_done, text) =
        reset(&server, &[ADMIN, "--password-stdin", "--reset-second-factor"], "a long new one\n");
    assert!(is_done && !text.contains("a long new one"), "{text}");
    login("a long new one").is(200);

    for (arguments, input, reason) in [
        (&["nobody"][..], "", "there is no user nobody; there are ada"),
        (&[ADMIN, "--password-stdin"], "password1\n", "guessed first"),
        (&[ADMIN, "--password-stdin"], "", "standard input has no password"),
    ] {
        let (is_done, text) = reset(&server, arguments, input);
        assert!(!is_done && text.contains(reason), "{text}");
    }
    login("a long new one").is(200);
}

#[test]
fn a_misspelt_setting_ends_the_start_with_the_one_that_was_meant() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("picloud.toml");
    std::fs::write(&file, "base_domian = \"example.org\"\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_picloud"))
        .args(["serve", "--config"])
        .arg(&file)
        .env_clear()
        .env("PICLOUD_DATA_DIR", dir.path().join("data"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("unknown key \"base_domian\"; did you mean base_domain?"), "{text}");
    assert!(!dir.path().join("data").exists(), "nothing is made before the settings are right");
}

#[test]
fn a_log_for_programs_is_an_object_a_line_and_no_log_has_a_secret() {
    for format in ["json", "text"] {
        // As much as anybody would switch on.
        let settings =
            [("PICLOUD_LOG_FORMAT", format), ("RUST_LOG", "debug"), ("PICLOUD_OTLP_HEADERS", "a=hush-hush")];
        let server = TestServer::start_with(&settings);
        let key = json!({ "name": "ci", "scopes": ["app:read"] });
        let key = server.admin("POST", "/api-keys", &key).is(201).json()["key"].as_str().unwrap().to_owned();
        let bearer = format!("Bearer {key}");
        server
            .client
            .send("GET", "localhost", "/api/v1/admin/apps", &[("authorization", &bearer)], b"")
            .is(200);
        let user = json!({ "username": "bob", "password": "a long one for bob" });
        server.admin("POST", "/users", &user).is(201);
        let log = server.log();
        if format == "json" {
            let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let login = lines.iter().find(|line| line["message"] == "logged in").unwrap();
            assert_eq!(login["level"], "INFO");
            assert!(login["timestamp"].is_string() && login["span"]["id"].is_string(), "{login}");
        }
        let token = server.bearer().replace("Bearer ", "");
        let url = server.disk.database_url();
        for secret in [PASSWORD, &token, &key, "a long one for bob", "hush-hush", &url] {
            assert!(!log.contains(secret), "{secret} is in the log");
        }
    }
}

#[test]
fn a_database_can_be_brought_up_to_date_without_serving() {
    let disk = Disk::new();
    let migrate = || {
        let output = Command::new(env!("CARGO_BIN_EXE_picloud"))
            .arg("migrate")
            .env_clear()
            .env("DATABASE_URL", disk.database_url())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let first = migrate();
    assert!(first.starts_with("the database has schema 20"), "{first}");
    assert_eq!(migrate(), first, "a second time finds nothing to do");
}

#[test]
fn a_callers_trace_goes_through_the_script_and_back() {
    let server = TestServer::shared();
    let app = server.app();
    app.serve("trace", "ctx.request.headers.traceparent", &NO_LIMITS);
    let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let reply = server.client.send("GET", &app.host, "/trace", &[("traceparent", given)], b"");
    let ours = reply.is(200).header("traceparent");
    assert!(ours != given && ours.starts_with(&given[..36]), "{ours}");
    assert!(reply.text().contains(ours), "{}", reply.text());
    let platform = server.client.send("GET", "localhost", "/version", &[("traceparent", given)], b"");
    assert!(platform.is(200).header("traceparent").starts_with(&given[..36]));
    assert_eq!(server.client.get("localhost", "/version").is(200).header("traceparent").len(), 55);
}

#[test]
fn answers_of_the_platform_are_safe_in_a_browser() {
    let server = TestServer::shared();
    for path in ["/api/v1/admin/apps", "/version", "/healthz", "/readyz", "/metrics", "/api/v1/openapi.json"]
    {
        let headers = [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
        let reply = server.client.send("GET", "localhost", path, &headers, b"");
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(reply.header("cache-control"), "no-store", "{path}");
        assert_eq!(reply.header("referrer-policy"), "no-referrer", "{path}");
        assert!(reply.header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        assert_eq!(reply.header("cross-origin-opener-policy"), "same-origin", "{path}");
        assert_eq!(reply.header("cross-origin-resource-policy"), "same-origin", "{path}");
        // Only where people come by TLS: over http it may not be sent.
        assert_eq!(reply.header("strict-transport-security"), "", "{path}");
        assert!(!reply.headers.keys().any(|name| name.as_str().starts_with("access-control-")), "{path}");
        assert!(!reply.header("x-request-id").is_empty(), "{path}");
    }
    let asked = [("origin", "https://evil.example"), ("access-control-request-method", "DELETE")];
    let preflight = server.client.send("OPTIONS", "localhost", "/api/v1/admin/apps/default", &asked, b"");
    assert!(!preflight.headers.contains_key("access-control-allow-origin"), "{preflight:?}");
}
