use axum::body::Body;
use http::Request;
use serde_json::json;

use crate::harness::{PASSWORD, Reply, TestApi};

async fn by_cookie(api: &TestApi, method: &str, path: &str, cookie: &str, site: &str) -> Reply {
    let request = Request::builder()
        .method(method)
        .uri(format!("/api/v1/admin{path}"))
        .header("cookie", cookie)
        .header("sec-fetch-site", site)
        .body(Body::empty());
    api.send(request.unwrap()).await
}

#[tokio::test]
async fn a_login_by_cookie_keeps_the_token_from_scripts_and_works_until_logout() {
    let api = TestApi::start().await;
    let body = json!({ "username": "ada", "password": PASSWORD, "cookie": true });
    let reply = api.with_token(String::new()).post("/auth/login", body).await;
    assert!(reply.is(200).get("token").is_none());
    let set = reply.headers["set-cookie"].to_str().unwrap();
    assert!(set.starts_with("__Host-picloud=pics_"), "{set}");
    assert!(set.ends_with("Path=/; Secure; HttpOnly; SameSite=Strict"), "{set}");
    let cookie = set.split(';').next().unwrap();

    by_cookie(&api, "GET", "/auth/me", cookie, "same-origin").await.is(200);
    let out = by_cookie(&api, "POST", "/auth/logout", cookie, "same-origin").await;
    assert_eq!(out.status, 204);
    assert!(out.headers["set-cookie"].to_str().unwrap().starts_with("__Host-picloud=; Max-Age=0;"));
    by_cookie(&api, "GET", "/auth/me", cookie, "same-origin").await.is_problem("unauthenticated");
}

#[tokio::test]
async fn another_sites_page_changes_nothing_by_cookie() {
    let api = TestApi::start().await;
    let cookie = format!("__Host-picloud={}", api.token);
    for site in ["cross-site", "same-site"] {
        let refused = by_cookie(&api, "DELETE", "/apps/default?force=true", &cookie, site).await;
        assert_eq!(refused.is_problem("forbidden")["rule"], "same_origin");
    }
    api.get("/apps/default").await.is(200);
}

#[tokio::test]
async fn a_header_that_is_no_bearer_is_not_passed_over_for_a_cookie() {
    let api = TestApi::start().await;
    let request = Request::get("/api/v1/admin/auth/me")
        .header("cookie", format!("__Host-picloud={}", api.token))
        .header("authorization", "Basic YTpi")
        .body(Body::empty());
    api.send(request.unwrap()).await.is_problem("unauthenticated");
}
