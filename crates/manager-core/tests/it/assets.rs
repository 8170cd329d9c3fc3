//! Static files: what may be kept. How they are served is tested end to end.

use axum::body::Body;
use serde_json::json;

use crate::harness::{Reply, TestApi};

async fn put(api: &TestApi, path: &str, content: Vec<u8>) -> Reply {
    let mut request = api.request("PUT", &format!("/apps/default/assets?path={path}"), None);
    *request.body_mut() = Body::from(content);
    api.send(request).await
}

#[tokio::test]
async fn a_file_and_all_files_of_an_app_have_a_limit() {
    let api = TestApi::start().await;
    put(&api, "/big", vec![b'x'; 5 << 20]).await.is(200);
    put(&api, "/bigger", vec![b'x'; (5 << 20) + 1]).await.is_problem("body_too_large");
    api.database
        .execute(
            "insert into app_assets (app_id, path, content_type, hash, content)
             select a.id, '/f' || n, 'text/plain', sha256('x'), 'x'
             from apps a, generate_series(1, 998) n",
        )
        .await;
    put(&api, "/last", b"x".to_vec()).await.is(200);
    put(&api, "/more", b"x".to_vec()).await.is_problem("conflict");
    // One that is there already can be replaced.
    assert_eq!(put(&api, "/last", b"y".to_vec()).await.is(200)["is_changed"], true);
    assert_eq!(api.all_pages("/apps/default/assets", 200).await.len(), 1_000);
    let refused = api.call("DELETE", "/apps/default", None).await;
    assert_eq!(refused.is_problem("conflict")["contents"]["assets"], 1_000);
}

#[tokio::test]
async fn the_router_knows_which_apps_have_files() {
    let api = TestApi::start().await;
    let has_assets = || api.manager.routes().current().apps[0].has_assets;
    assert!(!has_assets());
    assert_eq!(put(&api, "/a.svg", b"<svg/>".to_vec()).await.is(200)["content_type"], "image/svg+xml");
    assert!(has_assets());
    assert_eq!(api.call("DELETE", "/apps/default/assets?path=/a.svg", None).await.status, 204);
    assert!(!has_assets());
    let log = api.get("/apps/default/audit").await.is(200).to_string();
    assert!(log.contains("asset.put") && log.contains("asset.delete"), "{log}");
    api.call("PUT", "/apps/default/assets", Some(json!({}))).await.is_problem("invalid_input");
}
