//! Webhooks from end to end: other people's servers sign, the handler runs, once, with what they said.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::harness::{Disk, NO_LIMITS, Reply, TestApp, TestServer, eventually};
use crate::triggers::{HANDLER, runs, told, trigger};

/// The secret of Standard Webhooks' own example, and the bytes that it stands for.
pub(crate) const STANDARD_SECRET: &str = "whsec_plJ3nmyCDGBKInavdOK15jsl";
const SECRET: &str = "It's a Secret to Everybody";

pub(crate) type Header = (&'static str, String);

fn mac(key: &[u8], parts: &[&str]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().fold(mac, |mac, part| mac.chain_update(part)).finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now() -> String {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().to_string()
}

pub(crate) fn standard(id: &str, body: &str) -> Vec<Header> {
    let key = STANDARD.decode(STANDARD_SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    let time = now();
    let signature = STANDARD.encode(mac(&key, &[id, ".", &time, ".", body]));
    vec![
        ("webhook-id", id.into()),
        ("webhook-timestamp", time),
        ("webhook-signature", format!("v1,{signature}")),
    ]
}

fn github(id: &str, body: &str) -> Vec<Header> {
    let signature = hex(&mac(SECRET.as_bytes(), &[body]));
    vec![
        ("x-github-delivery", id.into()),
        ("x-github-event", "push".into()),
        ("x-hub-signature-256", format!("sha256={signature}")),
    ]
}

fn stripe(body: &str) -> Vec<Header> {
    let time = now();
    let signature = hex(&mac(SECRET.as_bytes(), &[&time, ".", body]));
    vec![("stripe-signature", format!("t={time},v1={signature}"))]
}

/// As Slack signs.
fn slack(body: &str) -> Vec<Header> {
    let time = now();
    let signature = hex(&mac(SECRET.as_bytes(), &["v0:", &time, ":", body]));
    vec![("x-slack-signature", format!("v0={signature}")), ("x-slack-request-timestamp", time)]
}

pub(crate) fn send(app: &TestApp<'_>, id: &str, headers: &[Header], body: &str) -> Reply {
    let json = [("content-type", "application/json"), ("authorization", "Bearer of-somebody")];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).chain(json).collect();
    app.client().send("POST", "localhost", &format!("/api/v1/hooks/{id}"), &headers, body.as_bytes())
}

pub(crate) fn set(app: &TestApp<'_>, name: &str, value: &str) {
    app.admin("PUT", &format!("/secrets/{name}"), &json!({ "value": value })).is(201);
}

#[test]
fn a_signed_request_of_each_provider_runs_the_handler_once_with_what_was_sent() {
    let server = TestServer::shared();
    let app = server.app();
    set(&app, "STANDARD", STANDARD_SECRET);
    set(&app, "OTHERS", SECRET);
    let others = |provider: &str| json!({ "provider": provider, "secrets": ["OTHERS"] });
    let own = json!({
        "provider": "hmac", "secrets": ["OTHERS"], "header": "X-Slack-Signature", "prefix": "v0=",
        "timestamp_header": "X-Slack-Request-Timestamp", "signed": "v0:{timestamp}:{body}",
    });
    let body = r#"{"id":"evt_1","amount":12.5,"paid":true}"#;
    let cases = [
        ("standard", json!({ "provider": "standard", "secrets": ["STANDARD"] }), standard("msg_1", body)),
        ("github", others("github"), github("d-1", body)),
        ("stripe", others("stripe"), stripe(body)),
        ("hmac", own, slack(body)),
    ];
    for (provider, config, headers) in cases {
        app.deploy(provider, HANDLER, &NO_LIMITS);
        let id = trigger(&app, "webhook", provider, config);
        let altered = body.replace("12.5", "12.6");
        send(&app, &id, &headers, &altered).is(401).is_problem("signature_invalid");
        let taken = send(&app, &id, &headers, body).is(202).json();
        let again = send(&app, &id, &headers, body).is(202).json();
        assert_eq!(taken, again, "the same request is the same event");

        let told = told(&app, provider, 1);
        let (event, delivery) = (&told[0]["event"], &told[0]["delivery"]);
        assert_eq!((&event["kind"], &delivery["id"]), (&json!("webhook"), &taken["id"]), "{provider}");
        let webhook = &event["webhook"];
        assert_eq!(webhook["provider"], provider);
        assert_eq!(webhook["body"], json!({ "id": "evt_1", "amount": 12.5, "paid": true }));
        assert_eq!(webhook["headers"]["content-type"], "application/json");
        assert_eq!(webhook["headers"]["authorization"], Value::Null, "what proves who asks is hidden");
        for (name, value) in &headers {
            assert_eq!(webhook["headers"][name], *value);
        }
        // Everything that was taken has been delivered, and it was one event.
        eventually("nothing is left", || {
            let outbox = app.admin("GET", "/outbox", &Value::Null).is(200).json();
            (outbox["items"] == json!([])).then_some(())
        });
        let runs = runs(&app, provider);
        assert_eq!((runs.len(), &runs[0]["invocation_type"]), (1, &json!("event")), "{provider}: {runs:?}");
    }
}

#[test]
fn githubs_published_example_runs_the_handler() {
    let server = TestServer::shared();
    let app = server.app();
    app.deploy("hook", HANDLER, &NO_LIMITS);
    let id = trigger(&app, "webhook", "hook", json!({ "provider": "github", "secrets": ["HOOK"] }));
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let headers = [("x-hub-signature-256", signature.to_owned())];
    send(&app, &id, &headers, "Hello, World!").is(503).is_problem("webhook_not_ready");
    set(&app, "HOOK", SECRET);
    send(&app, &id, &headers, "Hello, World!").is(202);
    assert_eq!(told(&app, "hook", 1)[0]["event"]["webhook"]["body"], "Hello, World!");
}

#[test]
fn a_webhook_answers_on_any_host_and_its_app_sees_nothing_of_what_is_refused() {
    let server = TestServer::shared();
    let (app, other) = (server.app(), server.app());
    app.deploy("hook", HANDLER, &NO_LIMITS);
    set(&app, "HOOK", SECRET);
    let id = trigger(&app, "webhook", "hook", json!({ "provider": "github", "secrets": ["HOOK"] }));
    let path = format!("/api/v1/hooks/{id}");
    for (n, host) in ["localhost", &app.host, &other.host].into_iter().enumerate() {
        let headers = github(&n.to_string(), "{}");
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        app.client().send("POST", host, &path, &headers, b"{}").is(202);
        app.client().send("POST", host, &path, &headers, b"{} ").is(401).is_problem("signature_invalid");
        app.client().send("POST", host, &path, &[], b"{}").is(401).is_problem("signature_invalid");
    }
    let large = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 1048577\r\n\
         x-hub-signature-256: sha256={}\r\n\r\n",
        "0".repeat(64)
    );
    let refused = app.client().raw(large.as_bytes());
    assert!(refused.starts_with("HTTP/1.1 413 ") && refused.contains("body_too_large"), "{refused}");
    app.client().send("POST", "localhost", "/api/v1/hooks/none", &[], b"{}").is(404).is_problem("not_found");
    assert_eq!(told(&app, "hook", 3).len(), 3);
    assert_eq!(runs(&app, "hook").len(), 3);
}

#[test]
fn what_was_answered_202_runs_though_the_platform_is_killed_at_once() {
    let disk = Arc::new(Disk::new());
    let mut server = TestServer::start_on(Arc::clone(&disk));
    let app = server.app();
    app.deploy("hook", HANDLER, &NO_LIMITS);
    set(&app, "HOOK", SECRET);
    let id = trigger(&app, "webhook", "hook", json!({ "provider": "github", "secrets": ["HOOK"] }));
    let taken = send(&app, &id, &github("1", "{}"), "{}").is(202).json();
    server.signal(Signal::SIGKILL);
    let slug = app.slug.clone();
    server.wait();
    let server = TestServer::start_on(disk);
    let app = server.existing_app(&slug);
    // The sender, who saw no answer, sends again.
    assert_eq!(send(&app, &id, &github("1", "{}"), "{}").is(202).json(), taken);
    let told = told(&app, "hook", 1);
    assert!(told.iter().all(|told| told["delivery"]["id"] == taken["id"]), "{told:?}");
}
