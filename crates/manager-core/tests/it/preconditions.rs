//! `ETag` and `If-Match`: nobody overwrites what they have not seen.

use http::HeaderValue;
use http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use serde_json::{Value, json};

use crate::harness::{Reply, TestApi};

async fn when(
    api: &TestApi,
    method: &str,
    path: &str,
    body: Option<Value>,
    (name, tag): (HeaderName, &str),
) -> Reply {
    let mut request = api.request(method, path, body);
    request.headers_mut().insert(name, HeaderValue::try_from(tag).unwrap());
    api.send(request).await
}

fn tag(reply: &Reply) -> String {
    reply.headers["etag"].to_str().unwrap().to_owned()
}

/// Reads, changes, and tries to change again what was read: the second change is refused.
async fn is_guarded(api: &TestApi, path: &str, method: &str, bodies: [Value; 2]) {
    let [first, second] = bodies;
    let seen = tag(&api.get(path).await);
    let changed = when(api, method, path, Some(first), (IF_MATCH, &seen)).await;
    assert!(changed.status.is_success(), "{path}: {changed:?}");
    let now = tag(&changed);
    assert_ne!(now, seen, "{path}");
    assert_eq!(tag(&api.get(path).await), now, "{path}: a read and a change answer the same tag");
    let refused = when(api, method, path, Some(second.clone()), (IF_MATCH, &seen)).await;
    assert_eq!(refused.is_problem("precondition_failed")["etag"], now.as_str(), "{path}");
    assert_eq!(tag(&api.get(path).await), now, "{path}: a refused change changes nothing");
    let gone = when(api, "DELETE", path, None, (IF_MATCH, &seen)).await;
    assert!(gone.status == 412 || gone.status == 405, "{path}: {gone:?}");
    assert!(when(api, method, path, Some(second), (IF_MATCH, "*")).await.status.is_success(), "{path}");
}

#[tokio::test]
async fn a_change_of_what_somebody_else_changed_is_refused() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "blog" })).await.is(201);
    api.deploy("blog", "hello", "1").await.is(201);
    let route = api.post("/apps/blog/routes", json!({ "path": "/x", "script": "hello" })).await;
    let route = format!("/apps/blog/routes/{}", route.is(201)["id"].as_str().unwrap());
    api.person("bob", "member").await;
    api.post("/apps/blog/members", json!({ "user": "bob", "role": "viewer" })).await.is(201);

    is_guarded(&api, "/apps/blog", "PATCH", [json!({ "name": "a" }), json!({ "name": "b" })]).await;
    is_guarded(&api, &route, "PATCH", [json!({ "path": "/y" }), json!({ "path": "/z" })]).await;
    let sources = [json!({ "source": "2" }), json!({ "source": "3" })];
    is_guarded(&api, "/apps/blog/scripts/hello", "PUT", sources).await;
    let roles = [json!({ "role": "editor" }), json!({ "role": "app_admin" })];
    is_guarded(&api, "/apps/blog/members/bob", "PATCH", roles).await;
    let budgets = [json!({ "fuel_per_day": 1_000_000 }), json!({ "fuel_per_day": 2_000_000 })];
    is_guarded(&api, "/apps/blog/budgets", "PUT", budgets).await;
    let egress = [json!({ "allow": ["a.example"] }), json!({ "allow": null })];
    is_guarded(&api, "/apps/blog/egress", "PUT", egress).await;
    api.post("/apps/blog/topics", json!({ "name": "news" })).await.is(201);
    let external = [json!({ "external": true }), json!({ "external": false })];
    is_guarded(&api, "/apps/blog/topics/news", "PATCH", external).await;
    let cron = json!({ "kind": "cron", "script": "hello", "config": { "schedule": "0 3 * * *" } });
    let trigger = api.post("/apps/blog/triggers", cron).await;
    let trigger = format!("/apps/blog/triggers/{}", trigger.is(201)["id"].as_str().unwrap());
    let switched = [json!({ "enabled": false }), json!({ "enabled": true })];
    is_guarded(&api, &trigger, "PATCH", switched).await;
    api.call("PUT", "/apps/blog/kv/things/one", Some(json!({ "value": 0 }))).await.is(200);
    let values = [json!({ "value": 1 }), json!({ "value": 2 })];
    is_guarded(&api, "/apps/blog/kv/things/one", "PUT", values).await;
    let document = api.post("/apps/blog/docs/things", json!({ "data": {} })).await;
    let document = format!("/apps/blog/docs/things/{}", document.is(201)["id"].as_str().unwrap());
    let data = [json!({ "data": { "a": 1 } }), json!({ "data": { "a": 2 } })];
    is_guarded(&api, &document, "PUT", data.clone()).await;
    is_guarded(&api, &document, "PATCH", data).await;
    is_guarded(&api, "/users/bob", "PATCH", [json!({ "role": "admin" }), json!({ "role": "member" })]).await;
}

#[tokio::test]
async fn a_value_is_written_first_by_one_alone() {
    let api = TestApi::start().await;
    let put = |value: u32| {
        let body = Some(json!({ "value": value }));
        when(&api, "PUT", "/apps/default/kv/locks/door", body, (IF_NONE_MATCH, "*"))
    };
    let all = [put(1), put(2), put(3), put(4)];
    let [a, b, c, d] = all;
    let replies: [Reply; 4] = tokio::join!(a, b, c, d).into();
    let first = replies.iter().filter(|reply| reply.status == 200).count();
    let told = replies.iter().filter(|reply| reply.status == 412 || reply.status == 409).count();
    assert_eq!((first, told), (1, 3), "{replies:?}");
    let gone = when(&api, "PUT", "/apps/default/kv/locks/none", Some(json!({ "value": 1 })), (IF_MATCH, "*"));
    gone.await.is_problem("precondition_failed");
}

#[tokio::test]
async fn a_switch_and_a_take_over_are_of_what_was_seen() {
    let api = TestApi::start().await;
    let script = "/apps/default/scripts/hello";
    let seen = tag(&api.get(script).await);
    let off = when(&api, "POST", &format!("{script}:disable"), None, (IF_MATCH, &seen)).await;
    off.is(200);
    let late = when(&api, "POST", &format!("{script}:enable"), None, (IF_MATCH, &seen)).await;
    assert_eq!(late.is_problem("precondition_failed")["etag"], tag(&off).as_str());
    let cron = json!({ "kind": "cron", "script": "hello", "config": { "schedule": "0 3 * * *" } });
    let made = api.post("/apps/default/triggers", cron).await;
    let trigger = format!("/apps/default/triggers/{}", made.is(201)["id"].as_str().unwrap());
    api.call("PATCH", &trigger, Some(json!({ "name": "nightly" }))).await.is(200);
    let late = when(&api, "POST", &format!("{trigger}:take-over"), None, (IF_MATCH, &tag(&made))).await;
    late.is_problem("precondition_failed");
}

#[tokio::test]
async fn two_changes_at_once_of_what_both_saw_are_one_change() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "blog" })).await.is(201);
    let seen = tag(&api.get("/apps/blog").await);
    let rename = |name: &'static str| {
        let (api, seen) = (&api, &seen);
        async move { when(api, "PATCH", "/apps/blog", Some(json!({ "name": name })), (IF_MATCH, seen)).await }
    };
    let (a, b) = tokio::join!(rename("a"), rename("b"));
    let mut statuses = [a.status.as_u16(), b.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
}

#[tokio::test]
async fn a_first_deploy_can_insist_on_being_the_first() {
    let api = TestApi::start().await;
    let path = "/apps/default/scripts/new";
    let first = when(&api, "PUT", path, Some(json!({ "source": "1" })), (IF_NONE_MATCH, "*")).await;
    first.is(201);
    let second = when(&api, "PUT", path, Some(json!({ "source": "2" })), (IF_NONE_MATCH, "*")).await;
    assert_eq!(second.is_problem("precondition_failed")["etag"], tag(&first).as_str());
    let missing =
        when(&api, "PUT", "/apps/default/scripts/none", Some(json!({ "source": "1" })), (IF_MATCH, "*"))
            .await;
    missing.is_problem("precondition_failed");
}

#[tokio::test]
async fn a_file_is_replaced_and_removed_only_as_it_was_seen() {
    let api = TestApi::start().await;
    let path = "/apps/default/assets?path=/a.txt";
    let text = |text: &str| Some(json!(text));
    let first = when(&api, "PUT", path, text("one"), (IF_NONE_MATCH, "*")).await;
    first.is(200);
    when(&api, "PUT", path, text("two"), (IF_NONE_MATCH, "*")).await.is_problem("precondition_failed");
    let second = when(&api, "PUT", path, text("two"), (IF_MATCH, &tag(&first))).await;
    second.is(200);
    assert_ne!(tag(&second), tag(&first));
    for (method, body) in [("PUT", text("three")), ("DELETE", None)] {
        let refused = when(&api, method, path, body, (IF_MATCH, &tag(&first))).await;
        assert_eq!(refused.is_problem("precondition_failed")["etag"], tag(&second).as_str());
    }
    assert_eq!(when(&api, "DELETE", path, None, (IF_MATCH, &tag(&second))).await.status, 204);
    when(&api, "PUT", path, text("four"), (IF_MATCH, "*")).await.is_problem("precondition_failed");
}

#[tokio::test]
async fn a_domain_is_settled_and_let_go_only_as_it_was_seen() {
    let api = TestApi::start().await;
    let made = api.post("/apps/default/domains", json!({ "domain": "shop.example.org" })).await;
    let path = format!("/apps/default/domains/{}", made.is(201)["id"].as_str().unwrap());
    let seen = tag(&made);
    assert_eq!(tag(&api.get(&path).await), seen);
    let waived = when(&api, "POST", &format!("{path}:waive"), None, (IF_MATCH, &seen)).await;
    assert_eq!(waived.is(200)["is_verified"], true);
    for (method, path) in [("POST", format!("{path}:verify")), ("DELETE", path.clone())] {
        let refused = when(&api, method, &path, None, (IF_MATCH, &seen)).await;
        assert_eq!(refused.is_problem("precondition_failed")["etag"], tag(&waived).as_str(), "{path}");
    }
    assert_eq!(when(&api, "DELETE", &path, None, (IF_MATCH, &tag(&waived))).await.status, 204);
}

#[tokio::test]
async fn what_was_planned_is_applied_only_to_the_app_it_was_planned_for() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "blog" })).await.is(201);
    let manifest = |source: &str| Some(json!({ "scripts": { "page": { "source": source } } }));
    let plan = api.call("POST", "/apps/blog:plan", manifest("1")).await;
    assert_eq!(plan.is(200)["create"], 1);
    // Somebody else is quicker.
    api.deploy("blog", "other", "2").await.is(201);
    let late = when(&api, "POST", "/apps/blog:apply", manifest("1"), (IF_MATCH, &tag(&plan))).await;
    let now = late.is_problem("precondition_failed")["etag"].as_str().unwrap().to_owned();
    // A trigger and a topic are parts of an app too.
    let topic = api.post("/apps/blog/topics", json!({ "name": "news" })).await;
    topic.is(201);
    let cron = json!({ "kind": "cron", "script": "other", "config": { "schedule": "0 3 * * *" } });
    let trigger = api.post("/apps/blog/triggers", cron).await;
    let mut tags = vec![now];
    for path in ["/topics/news".to_owned(), format!("/triggers/{}", trigger.is(201)["id"].as_str().unwrap())]
    {
        tags.push(tag(&api.call("POST", "/apps/blog:plan", manifest("1")).await));
        assert_eq!(api.call("DELETE", &format!("/apps/blog{path}"), None).await.status, 204);
    }
    let now = tags[0].clone();
    tags.dedup();
    assert_eq!(tags.len(), 3, "each change has another tag");
    let plan = api.call("POST", "/apps/blog:plan", manifest("1")).await;
    assert_eq!(tag(&plan), now);
    assert_eq!(tag(&api.get("/apps/blog/manifest").await), now);
    let applied = when(&api, "POST", "/apps/blog:apply", manifest("1"), (IF_MATCH, &now)).await;
    applied.is(200);
    assert_ne!(tag(&applied), now);
    let again = when(&api, "POST", "/apps/blog:apply", manifest("1"), (IF_MATCH, &tag(&applied))).await;
    assert_eq!((&again.is(200)["changes"], tag(&again)), (&json!([]), tag(&applied)));
}
