//! Secrets and egress rules through the admin API; what scripts do with them is tested where there are
//! workers.

use manager_core::{MasterKey, MasterKeys, OpenError};
use serde_json::{Value, json};

use crate::harness::{TestApi, config};

const VALUE: &str = "a-value-that-is-nowhere-else";

#[tokio::test]
async fn only_names_are_listed_in_pages() {
    let api = TestApi::start().await;
    for name in ["b", "a", "C"] {
        let reply =
            api.call("PUT", &format!("/apps/default/secrets/{name}"), Some(json!({ "value": VALUE }))).await;
        assert!(reply.is(201)["updated_at"].is_string() && !reply.text.contains(VALUE));
    }
    let first = api.get("/apps/default/secrets?limit=2").await;
    let names = |page: &Value| {
        page["items"].as_array().unwrap().iter().map(|s| s["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(first.is(200)), ["C", "a"]);
    let cursor = first.json["next_cursor"].as_str().unwrap();
    let rest = api.get(&format!("/apps/default/secrets?limit=2&cursor={cursor}")).await;
    assert_eq!(names(rest.is(200)), ["b"]);
    let audit = api.get("/apps/default/audit").await;
    assert!(audit.text.contains("secret.set") && !audit.text.contains(VALUE));
}

#[tokio::test]
async fn both_keys_can_be_changed_and_a_given_master_key_is_asked_for() {
    let mut api = TestApi::start().await;
    api.call("PUT", "/apps/default/secrets/a", Some(json!({ "value": VALUE }))).await.is(201);
    assert_eq!(api.post("/apps/default/secrets:rotate-key", json!({})).await.is(200)["count"], 1);
    assert_eq!(api.post("/apps/default/secrets:rotate-key", json!({})).await.is(200)["count"], 1);
    // The test's key comes from elsewhere, so the new one has to be given.
    api.post("/system/secrets:rotate-master", json!({ "key": null })).await.is(422);
    api.post("/system/secrets:rotate-master", json!({ "key": "AAAA" })).await.is(422);
    let key = MasterKey::generate().unwrap();
    let body = json!({ "key": key.to_base64().as_str() });
    assert_eq!(api.post("/system/secrets:rotate-master", body).await.is(200)["count"], 1);
    api.call("PUT", "/apps/default/secrets/b", Some(json!({ "value": VALUE }))).await.is(201);
    let open = async |key: MasterKey| {
        let keys = MasterKeys { current: key, staged: None, keeper: None };
        manager_core::Manager::open(
            api.database.options(),
            manager_core::ManagerConfig { secret_keys: keys, ..config() },
        )
        .await
    };
    assert!(matches!(open(MasterKey::generate().unwrap()).await, Err(OpenError::WrongMasterKey(_))));
    api.manager.close().await;
    api.manager = open(key).await.unwrap();
}

#[tokio::test]
async fn secrets_go_with_their_app() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "gone" })).await.is(201);
    api.call("PUT", "/apps/gone/secrets/a", Some(json!({ "value": VALUE }))).await.is(201);
    api.call("PUT", "/apps/gone/egress", Some(json!({ "allow": [], "deny": [], "ports": [] }))).await.is(200);
    api.call("DELETE", "/apps/gone?force=true", None).await.is(204);
}

#[tokio::test]
async fn egress_rules_are_kept_as_they_are_set() {
    let api = TestApi::start().await;
    let none = json!({ "allow": null, "deny": [], "ports": [] });
    assert_eq!(api.get("/apps/default/egress").await.is(200), &none);
    let rules =
        json!({ "allow": ["api.example.com", "*.example.org"], "deny": ["b.example.org"], "ports": [8000] });
    assert_eq!(api.call("PUT", "/apps/default/egress", Some(rules.clone())).await.is(200), &rules);
    assert_eq!(api.get("/apps/default/egress").await.is(200), &rules);
    for bad in [
        json!({ "allow": ["127.0.0.1"] }),
        json!({ "allow": null, "ports": [0] }),
        json!({ "deny": ["x y"] }),
    ] {
        api.call("PUT", "/apps/default/egress", Some(bad)).await.is(422);
    }
}
