use serde_json::json;
use shared::host_call::HostOp;
use shared::host_call::pubsub::{SubscriberToken, Token};
use shared::limits::SUBSCRIBER_TOKEN_TOPICS_MAX;

use crate::calls::Script;
use crate::harness::TestApi;

/// A token that a script makes, or the code by which it is refused.
async fn token(script: &Script, topics: &[&str]) -> Result<String, String> {
    let args = SubscriberToken { topics: topics.to_vec(), ttl_s: 60 };
    let answer = script.call(HostOp::PubsubSubscriberToken, &args).await?;
    Ok(answer.read::<Token<'_>>().token.to_owned())
}

async fn open(api: &TestApi, app: &str, topic: &str) {
    let body = json!({ "name": topic, "external": true });
    api.post(&format!("/apps/{app}/topics"), body).await.is(201);
}

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
async fn a_topic_may_be_for_users_of_the_app() {
    let api = TestApi::start().await;
    let topic = json!({ "name": "mine", "external": true, "auth_mode": "user" });
    assert_eq!(api.post("/apps/default/topics", topic).await.is(201)["auth_mode"], "user");
    let path = "/apps/default/topics/mine";
    assert_eq!(api.get(path).await.is(200)["auth_mode"], "user");
    let changed = api.call("PATCH", path, Some(json!({ "auth_mode": "public" }))).await;
    assert_eq!(changed.is(200)["auth_mode"], "public");
}

#[tokio::test]
async fn a_token_is_for_its_topics_and_its_app_only() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    for (app, topic) in
        [("default", "news"), ("default", "orders"), ("default", "news.today"), ("other", "news")]
    {
        open(&api, app, topic).await;
    }
    let [app, other] = [api.app_id("default").await, api.app_id("other").await];
    let script = Script::of(&api, "default").await;
    let one = token(&script, &["news"]).await.unwrap();
    let both = token(&script, &["orders", "news"]).await.unwrap();
    let foreign = token(&Script::of(&api, "other").await, &["news"]).await.unwrap();
    for (app, topic, shown, status) in [
        (app, "news", &one, 200),
        (app, "orders", &one, 401),
        (app, "news.today", &one, 401),
        (app, "nobody-registered-this", &one, 404),
        (app, "news", &both, 200),
        (app, "orders", &both, 200),
        (app, "news", &foreign, 401),
        (other, "news", &one, 401),
        (other, "news", &foreign, 200),
    ] {
        assert_eq!(api.listen(app, topic, shown).await.as_u16(), status, "{topic} with {shown}");
    }

    // What the topic asks for is asked when somebody comes.
    let patch = |body| api.call("PATCH", "/apps/default/topics/news", Some(body));
    patch(json!({ "auth_mode": "user" })).await.is(200);
    assert_eq!(api.listen(app, "news", &one).await, 401);
    patch(json!({ "auth_mode": "public" })).await.is(200);
    assert_eq!(api.listen(app, "news", "anything").await, 200);
    patch(json!({ "external": false })).await.is(200);
    assert_eq!(api.listen(app, "news", &one).await, 404);
}

#[tokio::test]
async fn a_token_is_made_only_for_topics_to_which_somebody_outside_may_listen() {
    let api = TestApi::start().await;
    open(&api, "default", "open").await;
    api.post("/apps/default/topics", json!({ "name": "inner" })).await.is(201);
    let script = Script::of(&api, "default").await;
    token(&script, &["open"]).await.unwrap();
    for (topics, code) in [
        (["open", "inner"], "not_found"),
        (["open", "nobody-registered-this"], "not_found"),
        (["open", "open.*"], "invalid_argument"),
        (["open", ""], "invalid_argument"),
    ] {
        assert_eq!(token(&script, &topics).await, Err(code.to_owned()), "{topics:?}");
    }
    // The mode of a topic may be changed while a token is out.
    let patch = json!({ "auth_mode": "user" });
    api.call("PATCH", "/apps/default/topics/open", Some(patch)).await.is(200);
    token(&script, &["open"]).await.unwrap();
}

#[tokio::test]
async fn the_longest_token_that_can_be_made_is_taken() {
    let api = TestApi::start().await;
    let names: Vec<String> =
        (0..SUBSCRIBER_TOKEN_TOPICS_MAX).map(|number| format!("{number:x>200}")).collect();
    for name in &names {
        open(&api, "default", name).await;
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let token = token(&Script::of(&api, "default").await, &names).await.unwrap();
    let app = api.app_id("default").await;
    assert_eq!(api.listen(app, names[names.len() - 1], &token).await, 200, "{} bytes", token.len());
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
