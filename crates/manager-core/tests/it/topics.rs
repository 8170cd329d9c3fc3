use serde_json::json;

use crate::harness::TestApi;

#[tokio::test]
async fn a_topic_is_registered_shown_changed_and_made_internal_again() {
    let api = TestApi::start().await;
    let made = api.post("/apps/default/topics", json!({ "name": "orders.paid" })).await;
    // Nobody outside hears anything that nobody has opened, and then only who has a token.
    assert_eq!((&made.is(201)["external"], &made.json["auth_mode"]), (&json!(false), &json!("token")));
    let path = "/apps/default/topics/orders.paid";
    let patch = json!({ "external": true, "auth_mode": "public", "description": "Every sale" });
    let changed = api.call("PATCH", path, Some(patch)).await;
    assert_eq!((&changed.is(200)["external"], &changed.json["auth_mode"]), (&json!(true), &json!("public")));
    assert_eq!(api.get(path).await.is(200), &changed.json);
    let again = api.post("/apps/default/topics", json!({ "name": "orders.paid" })).await;
    assert_eq!(again.is_problem("conflict")["field"], "name");
    for name in ["b", "A", "a.b"] {
        api.post("/apps/default/topics", json!({ "name": name })).await.is(201);
    }
    let names: Vec<_> = api
        .all_pages("/apps/default/topics", 1)
        .await
        .iter()
        .map(|topic| topic["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["A", "a.b", "b", "orders.paid"]);
    assert_eq!(api.call("DELETE", path, None).await.status, 204);
    for method in ["GET", "DELETE"] {
        api.call(method, path, None).await.is_problem("not_found");
    }
    let entries = api.all_pages("/apps/default/audit", 50).await;
    let actions: Vec<_> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions[0], "topic.delete");
    assert_eq!(&actions[4..6], ["topic.update", "topic.create"]);
}

#[tokio::test]
async fn topics_that_cannot_be_are_refused_by_field() {
    let api = TestApi::start().await;
    for (body, field) in [
        (json!({}), "name"),
        (json!({ "name": "a..b" }), "name"),
        (json!({ "name": "a*" }), "name"),
        (json!({ "name": "x".repeat(201) }), "name"),
        (json!({ "name": "a", "auth_mode": "everybody" }), "auth_mode"),
        (json!({ "name": "a", "description": "x".repeat(2_001) }), "description"),
        (json!({ "name": "a", "colour": 1 }), "colour"),
    ] {
        let refused = api.post("/apps/default/topics", body).await;
        let problem = refused.is_problem("invalid_input");
        let named = problem["field"] == field || problem["detail"].as_str().unwrap().contains(field);
        assert!(named, "{field}: {problem}");
    }
    assert_eq!(api.all_pages("/apps/default/topics", 50).await, [json!(null); 0]);
}
