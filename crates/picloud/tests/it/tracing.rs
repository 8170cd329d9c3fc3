//! Traces as a collector gets them, and nothing where there is none.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::harness::{NO_LIMITS, TestServer};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// What one export held, and by which headers.
struct Export {
    headers: HashMap<String, String>,
    spans: Vec<Span>,
}

/// A collector that speaks as much HTTP as it must.
fn collector() -> (String, Receiver<Export>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, exports) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let sender = sender.clone();
            std::thread::spawn(move || take(stream.unwrap(), &sender));
        }
    });
    (endpoint, exports)
}

fn take(stream: TcpStream, exports: &Sender<Export>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut lines = Vec::new();
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
            lines.push(std::mem::take(&mut line));
        }
        let Some(first) = lines.first() else { return };
        assert_eq!(first.trim(), "POST /v1/traces HTTP/1.1");
        let headers: HashMap<_, _> = lines[1..]
            .iter()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut body = vec![0; headers["content-length"].parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        let spans = scopes.flat_map(|scope| scope.spans).collect();
        let _ = exports.send(Export { headers, spans });
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        reader.get_mut().write_all(answer).unwrap();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, name: &str) -> String {
    let value = span.attributes.iter().find(|pair| pair.key == name).and_then(|pair| pair.value.as_ref());
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => panic!("{name}: {other:?} in {span:?}"),
    }
}

#[test]
fn a_collector_gets_the_steps_of_a_callers_trace_and_of_new_ones_as_asked() {
    let (endpoint, exports) = collector();
    let mut server = TestServer::start_with(&[
        ("PICLOUD_OTLP_ENDPOINT", &endpoint),
        ("PICLOUD_OTLP_HEADERS", "authorization=Bearer hush-hush"),
        // Only what a caller asks to have recorded: the harness asks too.
        ("PICLOUD_OTLP_SAMPLE_PERCENT", "0"),
    ]);
    let app = server.app();
    app.deploy("traced", "#{ statusCode: 200, body: ctx.request.headers[\"traceparent\"] }", &NO_LIMITS);
    app.route("/traced", "traced");
    let host = app.host.clone();
    let given = format!("00-{TRACE}-{PARENT}-01");
    let reply = server.client.send("GET", &host, "/traced?secret=1", &[("traceparent", &given)], b"");
    let ours = reply.is(200).header("traceparent").to_owned();
    assert_eq!(reply.text(), ours, "the script passes on our step");
    let unrecorded = format!("00-{TRACE}-{PARENT}-00");
    server.client.send("GET", &host, "/traced", &[("traceparent", &unrecorded)], b"").is(200);
    let missing =
        server.client.send("GET", "localhost", "/api/v1/admin/apps", &[("traceparent", &given)], b"");
    missing.is(401);

    // The last batch is sent at the end; until then it waits for more.
    server.signal(Signal::SIGTERM);
    assert!(server.wait().success(), "{}", server.log());
    let mut spans = Vec::new();
    while spans.len() < 3 {
        let export = exports.recv_timeout(Duration::from_secs(10)).expect("the collector got no more");
        assert_eq!(export.headers["authorization"], "Bearer hush-hush");
        assert_eq!(export.headers["content-type"], "application/x-protobuf");
        spans.extend(export.spans);
    }
    assert_eq!(spans.len(), 3, "{spans:?}");
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
    let by = |path: &str| {
        let is_it = |span: &&Span| span.name == "GET" && attribute(span, "url.path") == path;
        spans.iter().find(is_it).unwrap_or_else(|| panic!("{path}: {spans:?}"))
    };
    let request = by("/traced");
    assert_eq!(hex(&request.parent_span_id), PARENT);
    assert_eq!(format!("00-{TRACE}-{}-01", hex(&request.span_id)), ours);
    assert_eq!(attribute(request, "http.response.status_code"), "200");
    let execution = spans.iter().find(|span| span.name == "execution").unwrap();
    assert_eq!(execution.parent_span_id, request.span_id);
    assert_eq!(
        (attribute(execution, "picloud.script"), attribute(execution, "picloud.status")),
        ("traced".into(), "ok".into())
    );
    assert!(execution.start_time_unix_nano >= request.start_time_unix_nano, "{execution:?} {request:?}");
    assert!(execution.end_time_unix_nano > execution.start_time_unix_nano);
    assert_eq!(attribute(by("/api/v1/admin/apps"), "http.response.status_code"), "401");
    let everything = format!("{spans:?}") + &server.log();
    assert!(!everything.contains("secret=1") && !everything.contains("hush-hush"));
}

#[test]
fn without_a_collector_no_request_gets_a_trace_and_nothing_waits_to_send_one() {
    let server = TestServer::shared();
    let reply = server.client.get("localhost", "/hello/world");
    assert_eq!(reply.is(200).header("traceparent"), "");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().flatten();
    let names: Vec<_> =
        tasks.map(|task| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default()).collect();
    assert!(!names.iter().any(|name| name.contains("OpenTele") || name.contains("reqwest")), "{names:?}");
}

#[test]
fn a_collector_that_is_away_costs_requests_nothing() {
    let mut server = TestServer::start_with(&[("PICLOUD_OTLP_ENDPOINT", "http://127.0.0.1:1")]);
    for _ in 0..50 {
        server.client.get("localhost", "/hello/world").is(200);
    }
    server.signal(Signal::SIGTERM);
    assert!(server.wait().success(), "{}", server.log());
}
