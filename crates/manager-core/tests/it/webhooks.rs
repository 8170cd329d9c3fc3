//! Webhooks: which requests become events, and what the others are told. That the handler runs is shown
//! where there are workers.

use std::net::IpAddr;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use hmac::{Hmac, KeyInit, Mac};
use http::Request;
use serde_json::{Value, json};
use sha2::Sha256;
use shared::http::ClientAddress;

use crate::harness::{Reply, TestApi};

const KEY: &str = "it is nobody's business";
const BODY: &str = r#"{"id":"evt_1","n":1}"#;

fn mac(key: &[u8], parts: &[&str]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().fold(mac, |mac, part| mac.chain_update(part)).finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now() -> i64 {
    Utc::now().timestamp()
}

type Header = (&'static str, String);

fn github(key: &str, id: &str, body: &str) -> Vec<Header> {
    let signature = hex(&mac(key.as_bytes(), &[body]));
    vec![("x-hub-signature-256", format!("sha256={signature}")), ("x-github-delivery", id.into())]
}

fn standard(key: &str, id: &str, time: i64, body: &str) -> Vec<Header> {
    let signature = STANDARD.encode(mac(key.as_bytes(), &[id, ".", &time.to_string(), ".", body]));
    vec![
        ("webhook-id", id.into()),
        ("webhook-timestamp", time.to_string()),
        ("webhook-signature", format!("v1a,x v1,{signature}")),
    ]
}

fn stripe(key: &str, time: i64, body: &str) -> Vec<Header> {
    let signature = hex(&mac(key.as_bytes(), &[&time.to_string(), ".", body]));
    vec![("stripe-signature", format!("t={time},v1={signature}"))]
}

/// A webhook of the app `default`.
struct Hook<'a> {
    api: &'a TestApi,
    id: String,
}

impl<'a> Hook<'a> {
    /// One whose secret `HOOK` is set.
    async fn new(api: &'a TestApi, provider: &str) -> Self {
        set(api, "HOOK", KEY).await;
        Self::of(api, json!({ "provider": provider, "secrets": ["HOOK"] })).await
    }

    async fn of(api: &'a TestApi, config: Value) -> Self {
        let made = make(api, config).await;
        let id = made.is(201)["id"].as_str().unwrap().to_owned();
        let url = format!("http://127.0.0.1:8080/api/v1/hooks/{id}");
        assert_eq!(made.json["url"], url);
        Self { api, id }
    }

    fn path(&self) -> String {
        format!("/apps/default/triggers/{}", self.id)
    }

    fn request(&self, headers: &[Header], body: impl Into<Body>) -> Request<Body> {
        let request = Request::post(format!("/api/v1/hooks/{}", self.id));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        request.body(body.into()).unwrap()
    }

    async fn send(&self, headers: &[Header], body: &'static str) -> Reply {
        self.api.send(self.request(headers, body)).await
    }

    /// Asserts that a request is refused, and that nothing of it is kept.
    async fn refuses(&self, headers: &[Header], body: &'static str, code: &str) -> Reply {
        let before = events(self.api).await.len();
        let reply = self.send(headers, body).await;
        reply.is_problem(code);
        assert!(!reply.text.contains(KEY), "{reply:?}");
        assert_eq!(events(self.api).await.len(), before, "{code}");
        reply
    }
}

async fn make(api: &TestApi, config: Value) -> Reply {
    let body = json!({ "kind": "webhook", "script": "hello", "config": config });
    api.post("/apps/default/triggers", body).await
}

async fn set(api: &TestApi, secret: &str, value: &str) {
    let path = format!("/apps/default/secrets/{secret}");
    assert!(api.call("PUT", &path, Some(json!({ "value": value }))).await.status.is_success());
}

/// Events that are written down; nothing delivers them here.
async fn events(api: &TestApi) -> Vec<Value> {
    api.all_pages("/apps/default/outbox", 50).await
}

#[tokio::test]
async fn a_request_that_is_signed_in_the_way_of_its_provider_is_written_down_as_an_event() {
    let api = TestApi::start().await;
    let own = json!({
        "provider": "hmac", "secrets": ["HOOK"], "header": "X-Sign", "prefix": "v0=", "timestamp_header": "X-Time",
        "id_header": "X-Id", "signed": "v0:{timestamp}:{body}",
    });
    set(&api, "HOOK", KEY).await;
    let time = now();
    let own_headers = vec![
        ("x-sign", format!("v0={}", hex(&mac(KEY.as_bytes(), &["v0:", &time.to_string(), ":", BODY])))),
        ("x-time", time.to_string()),
        ("x-id", "1".into()),
    ];
    let of = |provider: &str| json!({ "provider": provider, "secrets": ["HOOK"] });
    let cases = [
        (of("standard"), standard(KEY, "msg_1", time, BODY)),
        (of("github"), github(KEY, "1", BODY)),
        (of("stripe"), stripe(KEY, time, BODY)),
        (own, own_headers),
    ];
    let mut seen = Vec::new();
    for (config, headers) in &cases {
        let hook = Hook::of(&api, config.clone()).await;
        let taken = hook.send(headers, BODY).await;
        let delivery = taken.is(202)["id"].clone();
        seen.push((hook.id.clone(), delivery));
        // The headers of the others are none of this one's.
        for (other, headers) in &cases {
            if other != config {
                hook.refuses(headers, BODY, "signature_invalid").await;
            }
        }
    }
    let kept = events(&api).await;
    let kept: Vec<_> = kept
        .iter()
        .map(|event| (event["trigger_id"].as_str().unwrap().to_owned(), event["delivery_id"].clone()))
        .collect();
    assert_eq!(kept, seen);
}

#[tokio::test]
async fn attack_what_is_not_signed_or_signed_for_something_else_is_not_believed() {
    let api = TestApi::start().await;
    let hook = Hook::new(&api, "github").await;
    let good = github(KEY, "1", BODY);
    hook.refuses(&good, r#"{"id":"evt_1","n":2}"#, "signature_invalid").await;
    hook.refuses(&good, "", "signature_invalid").await;
    hook.refuses(&github("another", "1", BODY), BODY, "signature_invalid").await;
    let nothing = hook.refuses(&[], BODY, "signature_invalid").await;
    assert_eq!(nothing.json["detail"], "the header x-hub-signature-256 is missing");
    assert_eq!(nothing.headers["www-authenticate"], "Signature");
    let twice = [good.clone(), github("another", "1", BODY)].concat();
    hook.refuses(&twice, BODY, "signature_invalid").await;
    let sha1 = [("x-hub-signature", format!("sha1={}", "0".repeat(40)))];
    hook.refuses(&sha1, BODY, "signature_invalid").await;
    hook.send(&good, BODY).await.is(202);

    let denials = api.get("/apps/default/denials").await;
    let denied = &denials.is(200)["items"];
    assert_eq!(denied.as_array().unwrap().len(), 1, "the last of each webhook");
    assert_eq!((&denied[0]["rule"], &denied[0]["username"]), (&json!("signature"), &Value::Null));
    assert!(denied[0]["path"].as_str().unwrap().ends_with(&hook.id) && denied[0]["remedy"].is_string());
}

#[tokio::test]
async fn attack_a_signed_request_that_is_sent_much_later_is_refused() {
    let api = TestApi::start().await;
    type Signed = fn(i64) -> Vec<Header>;
    let cases: [(&str, Signed); 2] =
        [("standard", |time| standard(KEY, "msg_1", time, BODY)), ("stripe", |time| stripe(KEY, time, BODY))];
    for (provider, at) in cases {
        let hook = Hook::new(&api, provider).await;
        // Far enough for the time that passes meanwhile.
        for time in [now() - 400, now() + 400] {
            let stale = hook.refuses(&at(time), BODY, "signature_expired").await;
            assert!(stale.json["detail"].as_str().unwrap().contains("at most 300 s"), "{stale:?}");
        }
        hook.send(&at(now() - 200), BODY).await.is(202);
        let config = json!({ "provider": provider, "secrets": ["HOOK"], "tolerance_s": 3_600 });
        api.call("PATCH", &hook.path(), Some(json!({ "config": config }))).await.is(200);
        hook.send(&at(now() - 400), BODY).await.is(202);
    }
}

#[tokio::test]
async fn a_request_that_is_sent_again_is_the_same_event_and_another_under_its_id_is_refused() {
    let api = TestApi::start().await;
    let hook = Hook::new(&api, "standard").await;
    let first = hook.send(&standard(KEY, "msg_1", now(), BODY), BODY).await;
    let again = hook.send(&standard(KEY, "msg_1", now() + 1, BODY), BODY).await;
    assert_eq!(first.is(202), again.is(202));
    assert_eq!(events(&api).await.len(), 1);
    hook.refuses(&standard(KEY, "msg_1", now(), "{}"), "{}", "delivery_key_reused").await;
    let second = hook.send(&standard(KEY, "msg_2", now(), BODY), BODY).await;
    assert_ne!(first.json, *second.is(202));
    // Another webhook has ids of its own.
    let other = Hook::new(&api, "standard").await;
    assert_ne!(first.json, *other.send(&standard(KEY, "msg_1", now(), BODY), BODY).await.is(202));
    assert_eq!(events(&api).await.len(), 3);
}

#[tokio::test]
async fn a_request_that_is_sent_many_times_at_once_is_one_event() {
    let api = TestApi::start().await;
    let hook = Hook::new(&api, "github").await;
    let headers = github(KEY, "1", BODY);
    let sent = (0..8).map(|_| hook.send(&headers, BODY));
    let replies = futures_util::future::join_all(sent).await;
    assert!(replies.iter().all(|reply| reply.is(202) == &replies[0].json), "{replies:?}");
    assert_eq!(events(&api).await.len(), 1);
}

#[tokio::test]
async fn while_a_secret_is_replaced_both_are_good_and_neither_can_be_read() {
    let api = TestApi::start().await;
    for (name, value) in [("OLD", "the old one"), ("NEW", "the new one")] {
        set(&api, name, value).await;
    }
    let hook = Hook::of(&api, json!({ "provider": "github", "secrets": ["NEW", "OLD"] })).await;
    hook.send(&github("the old one", "1", BODY), BODY).await.is(202);
    hook.send(&github("the new one", "2", BODY), BODY).await.is(202);
    let shown = api.get(&hook.path()).await;
    assert_eq!(shown.is(200)["config"]["secrets"], json!(["NEW", "OLD"]));
    for path in [
        hook.path(),
        "/apps/default/triggers".into(),
        "/apps/default/secrets".into(),
        "/apps/default/audit".into(),
    ] {
        let shown = api.get(&path).await;
        assert!(!shown.text.contains("the old one") && !shown.text.contains("the new one"), "{path}");
    }
    let config = json!({ "provider": "github", "secrets": ["NEW"] });
    api.call("PATCH", &hook.path(), Some(json!({ "config": config }))).await.is(200);
    hook.refuses(&github("the old one", "3", BODY), BODY, "signature_invalid").await;
    // Set anew, it is good at once.
    set(&api, "NEW", "a newer one").await;
    hook.refuses(&github("the new one", "3", BODY), BODY, "signature_invalid").await;
    hook.send(&github("a newer one", "3", BODY), BODY).await.is(202);
}

#[tokio::test]
async fn attack_without_a_secret_nobody_is_believed() {
    let api = TestApi::start().await;
    let made = make(&api, json!({ "provider": "standard", "secrets": ["GONE", "ALSO"] })).await;
    assert_eq!(made.is(201)["missing_secrets"], json!(["GONE", "ALSO"]));
    let hook = Hook { api: &api, id: made.json["id"].as_str().unwrap().to_owned() };
    for key in ["", "GONE", "null"] {
        let reply = hook.refuses(&standard(key, "msg_1", now(), BODY), BODY, "webhook_not_ready").await;
        assert_eq!(reply.headers["retry-after"], "60");
    }
    // Set, and no key: anybody can sign with nothing.
    set(&api, "GONE", "whsec_").await;
    hook.refuses(&standard("", "msg_1", now(), BODY), BODY, "webhook_not_ready").await;
    set(&api, "ALSO", KEY).await;
    hook.send(&standard(KEY, "msg_1", now(), BODY), BODY).await.is(202);
    assert_eq!(api.get(&hook.path()).await.is(200)["missing_secrets"], Value::Null);
    // Another app's secret of that name is not this one's.
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    api.deploy("other", "hello", "1").await.is(201);
    let body = json!({ "kind": "webhook", "script": "hello", "config": { "provider": "standard", "secrets": ["ALSO"] } });
    let theirs = api.post("/apps/other/triggers", body).await;
    let theirs = Hook { api: &api, id: theirs.is(201)["id"].as_str().unwrap().to_owned() };
    theirs.refuses(&standard(KEY, "msg_1", now(), BODY), BODY, "webhook_not_ready").await;
}

#[tokio::test]
async fn attack_a_body_over_the_limit_is_refused_and_not_read_for_who_says_nothing() {
    let api = TestApi::start().await;
    let hook = Hook::new(&api, "github").await;
    let body = |bytes: usize| "x".repeat(bytes);
    let (fits, over) = (body(1 << 20), body((1 << 20) + 1));
    let signed = |body: &str, id: &str| github(KEY, id, body);
    let refused = api.send(hook.request(&signed(&over, "1"), over.clone())).await;
    refused.is_problem("body_too_large");
    api.send(hook.request(&signed(&fits, "2"), fits.clone())).await.is(202);
    // No signature: the answer comes before the body is looked at.
    api.send(hook.request(&[], over)).await.is_problem("signature_invalid");
    assert_eq!(events(&api).await.len(), 1);
}

#[tokio::test]
async fn there_is_a_webhook_where_a_trigger_of_that_kind_is_switched_on_and_nowhere_else() {
    let api = TestApi::start().await;
    let hook = Hook::new(&api, "github").await;
    let headers = github(KEY, "1", BODY);
    let cron = json!({ "kind": "cron", "script": "hello", "config": { "schedule": "0 3 * * *" } });
    let cron = api.post("/apps/default/triggers", cron).await.is(201)["id"].as_str().unwrap().to_owned();
    for id in [cron.as_str(), "none", "0192f0c1-2b7e-7000-8000-000000000000"] {
        let nowhere = Hook { api: &api, id: id.to_owned() };
        nowhere.refuses(&headers, BODY, "not_found").await;
    }
    let mut read = hook.request(&headers, BODY);
    *read.method_mut() = http::Method::GET;
    let read = api.send(read).await;
    read.is_problem("method_not_allowed");
    assert_eq!(read.headers["allow"], "POST");
    api.call("PATCH", &hook.path(), Some(json!({ "enabled": false }))).await.is(200);
    hook.refuses(&headers, BODY, "not_found").await;
    api.call("PATCH", &hook.path(), Some(json!({ "enabled": true }))).await.is(200);
    hook.send(&headers, BODY).await.is(202);
    assert_eq!(api.call("DELETE", &hook.path(), None).await.status, 204);
    hook.send(&headers, BODY).await.is_problem("not_found");
}

#[tokio::test]
async fn attack_strangers_who_guess_are_stopped_and_the_sender_is_not() {
    let api = TestApi::start().await;
    let hook = Hook::new(&api, "github").await;
    let from = |address: &str, mut request: Request<Body>| {
        request.extensions_mut().insert(ClientAddress(address.parse::<IpAddr>().unwrap()));
        api.send(request)
    };
    let wrong = github("a guess", "1", BODY);
    let mut guesses = 0;
    // 60 at once, and one a second while the test takes its time.
    let stopped = loop {
        let reply = from("198.51.100.7", hook.request(&wrong, BODY)).await;
        if reply.status == 429 {
            break reply;
        }
        reply.is_problem("signature_invalid");
        guesses += 1;
        assert!(guesses < 600, "nobody is stopped");
    };
    assert!(guesses >= 60, "{guesses}");
    stopped.is_problem("too_many_requests");
    assert!(stopped.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
    from("198.51.100.8", hook.request(&github(KEY, "1", BODY), BODY)).await.is(202);
}

#[tokio::test]
async fn a_sender_of_more_than_the_trigger_takes_is_told_when_to_come_back() {
    let api = TestApi::start().await;
    set(&api, "HOOK", KEY).await;
    let hook = Hook::of(&api, json!({ "provider": "github", "secrets": ["HOOK"], "per_minute": 3 })).await;
    for id in ["1", "2", "3"] {
        hook.send(&github(KEY, id, BODY), BODY).await.is(202);
    }
    let more = hook.refuses(&github(KEY, "4", BODY), BODY, "too_many_requests").await;
    assert!((1..=20).contains(&more.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap()));
}

#[tokio::test]
async fn the_document_describes_where_webhooks_come_in() {
    let api = TestApi::start().await;
    let document = api.send(Request::get("/api/v1/openapi.json").body(Body::empty()).unwrap()).await;
    let operation = &document.is(200)["paths"]["/api/v1/hooks/{trigger_id}"]["post"];
    assert_eq!((&operation["operationId"], &operation["security"]), (&json!("webhooks_receive"), &json!([])));
    for status in ["202", "401", "404", "409", "413", "429", "503"] {
        assert!(operation["responses"][status].is_object(), "{status}");
    }
}
