use std::net::IpAddr;

use axum::body::Body;
use http::Request;

use crate::harness::{PASSWORD, TestApi};

#[tokio::test]
async fn a_login_gives_a_token_that_works_until_logout() {
    let api = TestApi::start().await;
    let me = api.get("/auth/me").await;
    assert_eq!((&me.is(200)["username"], &me.json["role"]), (&"ada".into(), &"owner".into()));
    assert_eq!(me.headers["cache-control"], "no-store");

    assert_eq!(api.call("POST", "/auth/logout", None).await.status, 204);
    let after = api.get("/auth/me").await;
    after.is_problem("unauthenticated");
    assert_eq!(after.headers["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn a_user_name_is_found_whatever_its_case() {
    let api = TestApi::start().await;
    let reply = api.login("ADA", PASSWORD, None).await;
    assert_eq!(reply.is(200)["user"]["username"], "ada");
    assert!(reply.json["expires_at"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_get_the_same_answer() {
    let api = TestApi::start().await;
    let mut wrong = api.login("ada", "wrong", None).await;
    let mut unknown = api.login("nobody", "wrong", None).await;
    let mut no_name = api.login("a\0b", "wrong", None).await;
    wrong.is_problem("unauthenticated");
    for reply in [&mut wrong, &mut unknown, &mut no_name] {
        reply.headers.remove("date");
    }
    assert_eq!(
        (wrong.status, &wrong.text, &wrong.headers),
        (unknown.status, &unknown.text, &unknown.headers)
    );
    assert_eq!(wrong.text, no_name.text);
}

#[tokio::test]
async fn the_sixth_wrong_password_in_a_minute_is_told_to_wait() {
    let api = TestApi::start().await;
    for _ in 0..5 {
        api.login("eve", "guess", None).await.is_problem("unauthenticated");
    }
    let reply = api.login("eve", "guess", None).await;
    reply.is_problem("too_many_requests");
    let wait: u32 = reply.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=12).contains(&wait), "{wait}");
}

#[tokio::test]
async fn guesses_from_elsewhere_do_not_lock_the_owner_out() {
    let api = TestApi::start().await;
    let [home, elsewhere]: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
    api.login("ada", PASSWORD, Some(home)).await.is(200);
    while api.login("ada", "guess", Some(elsewhere)).await.status != 429 {}
    api.login("ada", PASSWORD, Some(home)).await.is(200);
}

#[tokio::test]
async fn what_is_no_token_is_refused() {
    let api = TestApi::start().await;
    for value in ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer pics_AAAA", "Bearer \u{7f}"] {
        let mut request = Request::get("/api/v1/admin/auth/me").body(Body::empty()).unwrap();
        if let Ok(value) = value.parse() {
            request.headers_mut().insert("authorization", value);
        }
        api.send(request).await.is_problem("unauthenticated");
    }
}

#[tokio::test]
async fn an_idle_an_expired_and_a_disabled_session_are_over() {
    let api = TestApi::start().await;
    let end = [
        "update sessions set last_seen_at = now() - interval '25 hours'",
        "update sessions set last_seen_at = now(), created_at = now() - interval '40 days', expires_at = now() - interval '1 second'",
        "update sessions set expires_at = now() + interval '1 day'; update users set disabled_at = now()",
    ];
    for sql in end {
        api.get("/auth/me").await;
        api.database.execute(sql).await;
        api.get("/auth/me").await.is_problem("unauthenticated");
    }
    api.database.execute("update users set disabled_at = null").await;
    api.get("/auth/me").await.is(200);
}

#[tokio::test]
async fn a_token_that_cannot_be_checked_is_503_and_never_a_stranger() {
    let api = TestApi::start().await;
    api.manager.close().await;
    let reply = api.get("/apps").await;
    reply.is_problem("unavailable");
    assert_eq!(reply.headers["retry-after"], "1");
    // Without a token the answer does not need the database.
    let request = Request::get("/api/v1/admin/apps").body(Body::empty()).unwrap();
    api.send(request).await.is_problem("unauthenticated");
}

#[tokio::test]
async fn a_member_sees_no_app() {
    let api = TestApi::start().await;
    let api = api.person("eve", "member").await;
    assert_eq!(api.get("/apps").await.is(200)["items"].as_array().unwrap().len(), 0);
    api.get("/apps/default").await.is_problem("not_found");
    api.deploy("default", "hello", "1").await.is_problem("not_found");
    api.post("/apps", serde_json::json!({ "slug": "mine" })).await.is_problem("forbidden");
    let id = api.database.scalar::<uuid::Uuid>("select id from scripts").await;
    let request = Request::get(format!("/api/v1/execute/{id}"))
        .header("authorization", format!("Bearer {}", api.token))
        .body(Body::empty())
        .unwrap();
    let known = api.send(request).await;
    assert_eq!(known.is_problem("not_found")["detail"], "there is no such script");
}
