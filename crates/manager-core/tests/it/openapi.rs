//! The document that describes the API, and that it is true.

use std::collections::BTreeSet;

use axum::body::Body;
use http::Request;
use manager_core::permissions;
use serde_json::Value;

use crate::harness::{Reply, TestApi};

async fn get(api: &TestApi, path: &str) -> Reply {
    api.send(Request::get(path).body(Body::empty()).unwrap()).await
}

/// Every `$ref` below a value.
fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                found.insert(reference);
            }
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_has_every_endpoint_and_every_reference_leads_somewhere() {
    let api = TestApi::start().await;
    let reply = get(&api, "/api/v1/openapi.json").await;
    let document = reply.is(200);
    assert_eq!(reply.headers["content-type"], "application/json");
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for permission in permissions() {
        let operation =
            &document["paths"][format!("/api/v1/admin{}", permission.path)][permission.method.to_lowercase()];
        assert!(operation["operationId"].is_string(), "{} {}", permission.method, permission.path);
        let responses = operation["responses"].as_object().unwrap();
        // Those for browsers send them elsewhere.
        assert!(responses.keys().any(|status| status.starts_with('2') || status == "303"), "{operation}");
        assert_eq!(operation["x-capability"].as_str(), permission.needs);
        let is_open = operation["security"].as_array().unwrap().is_empty();
        assert_eq!(is_open, permission.needs.is_none());
    }
    let mut found = BTreeSet::new();
    references(document, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        let place = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(place).is_some(), "{reference} leads nowhere");
    }
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere_and_stands_in_nobodys_frame() {
    let api = TestApi::start().await;
    let page = get(&api, "/api/v1/docs").await;
    assert_eq!(page.status, 200);
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!page.text.contains("://") && !page.text.contains("<script>") && !page.text.contains("style="));
    for part in ["page.js", "page.css"] {
        assert!(page.text.contains(part));
        let reply = get(&api, &format!("/api/v1/docs/{part}")).await;
        assert!(reply.status == 200 && !reply.text.contains("://"), "{part}");
    }
}
