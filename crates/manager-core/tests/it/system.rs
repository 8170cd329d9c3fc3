use axum::body::Body;
use http::Request;
use manager_core::ManagerConfig;
use shared::fault::Code;

use crate::harness::{TestApi, config};

async fn get(api: &TestApi, path: &str) -> crate::harness::Reply {
    api.send(Request::get(path).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn version_names_every_interface() {
    let api = TestApi::start().await;
    let reply = get(&api, "/version").await;
    for member in ["product", "sdk", "api"] {
        assert!(reply.is(200)[member].is_string(), "{member}");
    }
    assert!(reply.json["schema"].as_i64().unwrap() >= 20_261_120_000_003);
    assert_eq!(reply.json["wire"], shared::wire::frame::PROTOCOL_VERSION);
}

#[tokio::test]
async fn every_error_code_has_its_page() {
    let api = TestApi::start().await;
    for code in Code::ALL {
        let reply = get(&api, &format!("/api/v1/errors/{}", code.as_str())).await;
        assert_eq!(reply.status, 200, "{}", code.as_str());
        assert!(reply.text.contains(code.title()));
        assert_eq!(reply.headers["content-type"], "text/markdown; charset=utf-8");
    }
    get(&api, "/api/v1/errors/nonsense").await.is_problem("not_found");
}

#[tokio::test]
async fn what_is_not_in_the_table_does_not_get_through_the_guard() {
    let api = TestApi::start().await;
    let request =
        Request::get("/unknown-to-the-guard").header("authorization", format!("Bearer {}", api.token));
    api.send(request.body(Body::empty()).unwrap()).await.is_problem("not_found");
}

#[tokio::test]
async fn browsers_are_told_to_come_by_tls_only_where_people_do() {
    let https = ManagerConfig { public_url: "https://pi.example".into(), ..config() };
    let [plain, tls] = [TestApi::start().await, TestApi::start_with(https).await];
    for path in ["/version", "/api/v1/admin/apps", "/nothing"] {
        let name = "strict-transport-security";
        assert_eq!(get(&plain, path).await.headers.get(name), None, "{path}");
        assert_eq!(get(&tls, path).await.headers[name], "max-age=31536000", "{path}");
    }
}

#[tokio::test]
async fn unknown_addresses_and_methods_are_problems_too() {
    let api = TestApi::start().await;
    let missing = get(&api, "/api/v1/admin/nothing").await;
    assert_eq!(missing.is_problem("not_found")["request_id"], "request-1");
    get(&api, "/nothing").await.is_problem("not_found");
    api.get("/apps/%ff").await.is_problem("bad_request");
    let wrong = api.call("DELETE", "/apps", None).await;
    wrong.is_problem("method_not_allowed");
    let allow = wrong.headers["allow"].to_str().unwrap();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
}
