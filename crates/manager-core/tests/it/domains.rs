//! Claims to hosts. That the record in the DNS is looked for is tested end to end, where there is one.

use serde_json::{Value, json};

use crate::harness::{Reply, TestApi};

async fn claim(api: &TestApi, app: &str, domain: &str) -> Reply {
    api.post(&format!("/apps/{app}/domains"), json!({ "domain": domain })).await
}

fn id(reply: &Reply) -> String {
    reply.is(201)["id"].as_str().unwrap().to_owned()
}

async fn waive(api: &TestApi, app: &str, id: &str) -> Reply {
    api.post(&format!("/apps/{app}/domains/{id}:waive"), Value::Null).await
}

fn domains(api: &TestApi, app: &str) -> Vec<String> {
    let table = api.manager.routes().current();
    let app = table.apps.iter().find(|routes| routes.slug.as_str() == app).unwrap();
    app.domains.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_claim_takes_effect_when_it_is_believed_and_ends_when_it_is_let_go() {
    let api = TestApi::start().await;
    let claimed = claim(&api, "default", ":tenant.Example.com").await;
    let id = id(&claimed);
    assert_eq!(claimed.json["domain"], "{tenant}.example.com");
    assert_eq!(claimed.json["record"]["name"], "_picloud.example.com");
    assert_eq!(domains(&api, "default"), [""; 0], "a claim alone is nothing");

    let path = format!("/apps/default/domains/{id}");
    let unreachable = api.post(&format!("{path}:verify"), Value::Null).await;
    assert_eq!(unreachable.is_problem("dns_unavailable")["retry"], "safe");
    let waived = waive(&api, "default", &id).await;
    assert_eq!((&waived.is(200)["verified_by"], &waived.json["record"]), (&"waiver".into(), &Value::Null));
    assert_eq!(domains(&api, "default"), ["{tenant}.example.com"]);
    // What is proven stays so, without asking the DNS again.
    api.post(&format!("{path}:verify"), Value::Null).await.is(200);
    assert_eq!(api.get("/apps/default/domains").await.is(200)["items"][0]["is_verified"], true);
    assert_eq!(api.call("DELETE", &path, None).await.status, 204);
    assert_eq!(domains(&api, "default"), [""; 0]);
    api.call("DELETE", &path, None).await.is_problem("not_found");
}

#[tokio::test]
async fn attack_a_claim_does_not_keep_the_owner_of_a_domain_from_it() {
    let api = TestApi::start().await;
    for app in ["squatter", "owner"] {
        api.post("/apps", json!({ "slug": app })).await.is(201);
    }
    let squat = id(&claim(&api, "squatter", "*.example.com").await);
    let own = claim(&api, "owner", "{t}.example.com").await;
    assert_ne!(own.json["record"]["value"], Value::Null);
    waive(&api, "owner", &id(&own)).await.is(200);
    // From then on the other's claim can neither be made nor be proven.
    let late = waive(&api, "squatter", &squat).await;
    let detail = late.is_problem("conflict")["detail"].as_str().unwrap();
    assert!(detail.contains("another app") && !detail.contains("owner"), "{detail}");
    api.call("DELETE", &format!("/apps/squatter/domains/{squat}"), None).await;
    claim(&api, "squatter", "*.example.com").await.is_problem("conflict");
    assert_eq!(domains(&api, "owner"), ["{t}.example.com"]);
    // A host of its own below the claim is another claim, to be proven by itself.
    claim(&api, "squatter", "shop.example.com").await.is(201);
}

#[tokio::test]
async fn claims_that_cannot_be_are_refused_with_the_reason() {
    let api = TestApi::start().await;
    for (domain, reason) in [
        ("example", "at least two labels"),
        ("127.0.0.1", "by name, not by address"),
        ("bücher.example", "xn--"),
        ("blog.localhost", "belongs to this server"),
        ("evil.onion", "nobody's"),
        ("", "1 to 253"),
    ] {
        let refused = claim(&api, "default", domain).await;
        let problem = refused.is_problem("invalid_input");
        assert_eq!(problem["field"], "domain");
        assert!(problem["detail"].as_str().unwrap().contains(reason), "{problem}");
    }
    claim(&api, "default", "a.example.com").await.is(201);
    claim(&api, "default", "A.example.com.").await.is_problem("conflict");
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    let foreign = id(&claim(&api, "other", "b.example.com").await);
    api.call("DELETE", &format!("/apps/default/domains/{foreign}"), None).await.is_problem("not_found");
}
