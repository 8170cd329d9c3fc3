//! `Idempotency-Key`: what is sent twice is done once.

use http::HeaderValue;
use serde_json::{Value, json};

use crate::harness::{Reply, TestApi};

async fn post(api: &TestApi, path: &str, body: &Value, key: &str) -> Reply {
    let mut request = api.request("POST", path, Some(body.clone()));
    request.headers_mut().insert("idempotency-key", HeaderValue::try_from(key).unwrap());
    api.send(request).await
}

#[tokio::test]
async fn a_request_that_is_sent_again_is_answered_again_and_done_once() {
    let api = TestApi::start().await;
    let body = json!({ "slug": "blog" });
    let first = post(&api, "/apps", &body, "key-1").await;
    first.is(201);
    assert!(!first.headers.contains_key("idempotency-replayed"));
    let second = post(&api, "/apps", &body, "key-1").await;
    assert_eq!((second.is(201), &second.headers["etag"]), (first.is(201), &first.headers["etag"]));
    assert_eq!(second.headers["idempotency-replayed"], "true");
    assert_eq!(second.headers["content-type"], "application/json");
    post(&api, "/apps", &body, "key-2").await.is_problem("conflict");
    let made = api.get("/audit?action=app.create").await;
    let made = made.is(200)["items"].as_array().unwrap().iter().filter(|entry| entry["target"] == "blog");
    assert_eq!(made.count(), 1);
}

#[tokio::test]
async fn a_key_that_was_used_for_another_request_is_refused() {
    let api = TestApi::start().await;
    post(&api, "/apps", &json!({ "slug": "blog" }), "key").await.is(201);
    post(&api, "/apps", &json!({ "slug": "shop" }), "key").await.is_problem("idempotency_key_reused");
    post(&api, "/invitations", &json!({ "slug": "blog" }), "key").await.is_problem("idempotency_key_reused");
    api.get("/apps/shop").await.is_problem("not_found");
}

#[tokio::test]
async fn two_at_once_are_done_once() {
    let api = TestApi::start().await;
    let body = json!({ "slug": "blog" });
    let (a, b) = tokio::join!(post(&api, "/apps", &body, "key"), post(&api, "/apps", &body, "key"));
    for reply in [&a, &b] {
        if reply.status != 201 {
            reply.is_problem("request_in_flight");
            assert_eq!(reply.headers["retry-after"], "1");
        }
    }
    assert!(a.status == 201 || b.status == 201);
    post(&api, "/apps", &body, "key").await.is(201);
}

#[tokio::test]
async fn a_request_that_was_refused_leaves_its_key_free() {
    let api = TestApi::start().await;
    post(&api, "/apps", &json!({ "slug": "NO" }), "key").await.is_problem("invalid_input");
    post(&api, "/apps", &json!({ "slug": "yes" }), "key").await.is(201);
}

#[tokio::test]
async fn a_secret_is_shown_once_even_to_who_asks_again() {
    let api = TestApi::start().await;
    let body = json!({ "name": "ci", "scopes": ["app:read"] });
    let key = post(&api, "/api-keys", &body, "key").await.is(201)["key"].as_str().unwrap().to_owned();
    let again = post(&api, "/api-keys", &body, "key").await;
    assert_eq!(again.is_problem("conflict")["answered_status"], 201);
    assert!(!again.text.contains(&key));
    assert_eq!(api.all_pages("/api-keys", 50).await.len(), 1);
    let kept: i64 = api.database.scalar("select count(*) from idempotency_keys where body is not null").await;
    assert_eq!(kept, 0);
}

#[tokio::test]
async fn a_key_is_its_persons_own() {
    let api = TestApi::start().await;
    let eve = api.person("eve", "owner").await;
    let body = json!({ "slug": "blog" });
    post(&api, "/apps", &body, "key").await.is(201);
    post(&eve, "/apps", &body, "key").await.is_problem("conflict");
}

#[tokio::test]
async fn keys_end_after_a_day_and_those_of_a_server_that_stopped_after_ten_minutes() {
    let api = TestApi::start().await;
    post(&api, "/apps", &json!({ "slug": "old" }), "old").await.is(201);
    api.database.execute("update idempotency_keys set begun_at = now() - interval '25 hours'").await;
    post(&api, "/apps", &json!({ "slug": "new" }), "old").await.is(201);
    api.database.execute("update idempotency_keys set status = null").await;
    post(&api, "/apps", &json!({ "slug": "new" }), "old").await.is_problem("request_in_flight");
    api.database.execute("update idempotency_keys set begun_at = now() - interval '11 minutes'").await;
    post(&api, "/apps", &json!({ "slug": "newest" }), "old").await.is(201);
}

#[tokio::test]
async fn a_key_that_is_none_is_refused() {
    let api = TestApi::start().await;
    for bad in ["", " ", "a b", &"x".repeat(256)] {
        post(&api, "/apps", &json!({ "slug": "blog" }), bad).await.is_problem("bad_request");
    }
    let mut twice = api.request("POST", "/apps", Some(json!({ "slug": "blog" })));
    twice.headers_mut().append("idempotency-key", HeaderValue::from_static("a"));
    twice.headers_mut().append("idempotency-key", HeaderValue::from_static("b"));
    api.send(twice).await.is_problem("bad_request");
}

#[tokio::test]
async fn a_manifest_beyond_the_longest_ordinary_body_can_have_a_key() {
    let api = TestApi::start().await;
    let source = format!("// {}\n1", "x".repeat(900 << 10));
    let script = json!({ "source": source });
    let manifest = json!({ "scripts": { "a": script, "b": script, "c": script } });
    assert!(manifest.to_string().len() > 2 << 20);
    for is_replayed in [false, true] {
        let reply = post(&api, "/apps/default:apply", &manifest, "key").await;
        assert_eq!(reply.is(200)["is_applied"], true);
        assert_eq!(reply.headers.contains_key("idempotency-replayed"), is_replayed);
    }
    let long = json!({ "slug": "x".repeat(3 << 20) });
    post(&api, "/apps", &long, "other").await.is_problem("body_too_large");
}
