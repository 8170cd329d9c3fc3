use std::net::IpAddr;

use axum::body::Body;
use http::Request;
use manager_core::ManagerConfig;
use serde_json::json;
use shared::http::ClientAddress;

use crate::harness::{Reply, TestApi, config};

async fn strict() -> TestApi {
    TestApi::start_with(ManagerConfig { api_requests_per_minute: 10, ..config() }).await
}

fn from(address: &str, mut request: Request<Body>) -> Request<Body> {
    request.extensions_mut().insert(ClientAddress(address.parse::<IpAddr>().unwrap()));
    request
}

fn header<'a>(reply: &'a Reply, name: &str) -> &'a str {
    reply.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_session_that_asks_too_often_waits_and_others_do_not() {
    let api = strict().await;
    let bob = api.person("bob", "member").await;
    for left in (0..10).rev() {
        let reply = api.get("/auth/me").await;
        reply.is(200);
        assert_eq!(header(&reply, "ratelimit-policy"), "\"caller\";q=10;w=60");
        assert!(header(&reply, "ratelimit").starts_with(&format!("\"caller\";r={left};t=")), "{reply:?}");
    }
    let refused = api.get("/apps/no-such-app").await;
    refused.is_problem("too_many_requests");
    assert!((1..=6).contains(&header(&refused, "retry-after").parse::<u32>().unwrap()), "{refused:?}");
    assert!(header(&refused, "ratelimit").starts_with("\"caller\";r=0;t="));
    bob.get("/auth/me").await.is(200);
    // Whatever was answered, it says how many are left.
    let missing = bob.get("/apps/no-such-app").await;
    missing.is_problem("not_found");
    assert!(header(&missing, "ratelimit").starts_with("\"caller\";r=8;t="), "{missing:?}");
}

#[tokio::test]
async fn an_address_is_stopped_before_its_credentials_cost_anything() {
    let api = strict().await;
    let unknown = api.with_token("pics_AAAA".into());
    let request = || from("198.51.100.7", unknown.request("GET", "/auth/me", None));
    for _ in 0..50 {
        unknown.send(request()).await.is_problem("unauthenticated");
    }
    let refused = unknown.send(request()).await;
    refused.is_problem("too_many_requests");
    assert_eq!(header(&refused, "ratelimit-policy"), "\"address\";q=50;w=60");
    let elsewhere = unknown.send(from("198.51.100.8", unknown.request("GET", "/auth/me", None))).await;
    elsewhere.is_problem("unauthenticated");
}

#[tokio::test]
async fn a_login_says_how_many_attempts_are_left_and_not_how_many_requests() {
    let api = strict().await;
    let wrong = json!({ "username": "ada", "password": "wrong" });
    let reply = api.send(from("198.51.100.9", api.request("POST", "/auth/login", Some(wrong)))).await;
    reply.is_problem("unauthenticated");
    assert!(header(&reply, "ratelimit").starts_with("\"account\";r="), "{reply:?}");
}
