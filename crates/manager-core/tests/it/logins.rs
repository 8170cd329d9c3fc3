//! Attacks on logins, numbered as in `docs/attacks.md`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use axum::body::Body;
use futures_util::future::join_all;
use http::Request;
use serde_json::json;

use crate::catalogue::print_row;
use crate::harness::{PASSWORD, Reply, TestApi};

/// More than any limit of a login lets through.
const MANY: u32 = 10_000;

fn address(number: u32) -> Option<IpAddr> {
    Some(Ipv4Addr::from(0x0a00_0000 + number).into())
}

/// How many answers there were of each status.
fn tally(replies: impl IntoIterator<Item = Reply>) -> BTreeMap<u16, usize> {
    let mut tally = BTreeMap::new();
    for reply in replies {
        *tally.entry(reply.status.as_u16()).or_default() += 1;
    }
    tally
}

#[tokio::test]
async fn attack_56_ten_thousand_guesses_at_one_account_from_as_many_addresses() {
    let api = TestApi::start().await;
    let home = address(0);
    api.login("ada", PASSWORD, home).await.is(200);
    let started = std::time::Instant::now();
    let mut replies = Vec::new();
    for number in 1..=MANY {
        replies.push(api.login("ada", &format!("guess {number}"), address(number)).await);
    }
    let tally = tally(replies);
    // Five at once and five a minute.
    let most = 6 + usize::try_from(started.elapsed().as_secs() / 12).unwrap();
    let expected = format!("429 but for {most} at most");
    print_row("56", "guesses at one account", &expected, &format!("{tally:?}"));
    assert!(tally[&401] <= most && tally.len() == 2, "{tally:?}");
    assert_eq!(tally[&401] + tally[&429], MANY as usize);
    // Who was here before is not locked out.
    api.login("ada", PASSWORD, home).await.is(200);
}

#[tokio::test]
async fn attack_56_ten_thousand_accounts_from_one_address() {
    let api = TestApi::start().await;
    let started = std::time::Instant::now();
    let mut replies = Vec::new();
    for number in 0..MANY {
        replies.push(api.login(&format!("user{number}"), "spring 2026", address(1)).await);
    }
    let tally = tally(replies);
    let most = 21 + usize::try_from(started.elapsed().as_secs() / 3).unwrap();
    let expected = format!("429 but for {most} at most");
    print_row("56", "accounts from one address", &expected, &format!("{tally:?}"));
    assert!(tally[&401] <= most && tally.len() == 2, "{tally:?}");
    api.login("ada", PASSWORD, address(2)).await.is(200);
}

#[tokio::test]
async fn attack_56_two_hundred_logins_at_once_do_not_all_get_the_memory_of_a_hash() {
    let api = TestApi::start().await;
    let names: Vec<_> = (0..200).map(|number| format!("user{number}")).collect();
    let logins = names.iter().zip(0..).map(|(name, number)| api.login(name, "wrong", address(number)));
    let replies = join_all(logins).await;
    let busy = replies.iter().find(|reply| reply.status == 429).unwrap();
    assert_eq!(busy.is_problem("too_many_requests")["detail"], "too many passwords are being checked");
    assert_eq!(busy.headers["retry-after"], "1");
    let tally = tally(replies);
    print_row("56", "200 logins at once", "18 are hashed or wait, 429 for others", &format!("{tally:?}"));
    // Two that are hashed, and sixteen that wait for them.
    assert!(tally[&401] >= 18 && tally.len() == 2, "{tally:?}");
    api.login("ada", PASSWORD, address(300)).await.is(200);
}

#[tokio::test]
async fn attack_56_a_session_that_was_there_before_the_login() {
    let api = TestApi::start().await;
    let planted = format!("pics_{}", "A".repeat(43));
    let body = json!({ "username": "ada", "password": PASSWORD, "cookie": true });
    let request = Request::post("/api/v1/admin/auth/login")
        .header("content-type", "application/json")
        .header("cookie", format!("__Host-picloud={planted}"))
        .header("authorization", format!("Bearer {planted}"))
        .body(Body::from(body.to_string()));
    let reply = api.send(request.unwrap()).await;
    reply.is(200);
    let given = reply.headers["set-cookie"].to_str().unwrap();
    let seen = if given.contains(&planted) { "the planted one" } else { "a new token" };
    print_row("56", "a session before the login", "a new token", seen);
    assert!(!given.contains(&planted), "{given}");
    api.with_token(planted).get("/auth/me").await.is_problem("unauthenticated");
    let [first, second] = [api.login("ada", PASSWORD, None).await, api.login("ada", PASSWORD, None).await];
    assert_ne!(first.is(200)["token"], second.is(200)["token"]);
}

#[tokio::test]
async fn attack_56_passwords_of_a_megabyte() {
    let api = TestApi::start().await;
    let long = "x".repeat(1 << 20);
    let reply = api.login("ada", &long, None).await;
    print_row("56", "a password of 1 MiB", "401", reply.status.as_str());
    reply.is_problem("unauthenticated");
    api.login("nobody", &long, None).await.is_problem("unauthenticated");
    let change = json!({ "current": PASSWORD, "new": long });
    api.post("/auth/password", change).await.is_problem("invalid_input");
    let user = json!({ "username": "bob", "password": long });
    api.post("/users", user).await.is_problem("invalid_input");
    api.login("ada", &"x".repeat(3 << 20), None).await.is_problem("body_too_large");
}

#[tokio::test]
async fn attack_56_a_long_password_that_differs_at_its_end() {
    let api = TestApi::start().await;
    let long: String = (1..40).map(|number| format!("{:x}-", number * 2_654_435_761_u64)).collect();
    let user = json!({ "username": "bob", "password": long });
    api.post("/users", user).await.is(201);
    api.login("bob", &long, None).await.is(200);
    let reply = api.login("bob", &long[..long.len() - 1], None).await;
    print_row("56", "one letter less at the end", "401", reply.status.as_str());
    reply.is_problem("unauthenticated");
    api.login("bob", &format!("{long}x"), None).await.is_problem("unauthenticated");
}
