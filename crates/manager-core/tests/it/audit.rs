use serde_json::{Value, json};

use crate::harness::TestApi;

async fn actions(api: &TestApi, path: &str) -> Vec<String> {
    let entries = api.all_pages(path, 3).await;
    entries.iter().rev().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_change_leaves_its_entry_and_what_failed_leaves_none() {
    let api = TestApi::start().await;
    api.person("bob", "member").await;
    api.post("/apps", json!({ "slug": "blog" })).await.is(201);
    api.post("/apps", json!({ "slug": "blog" })).await.is_problem("conflict");
    api.call("PATCH", "/apps/blog", Some(json!({ "name": "B" }))).await.is(200);
    api.deploy("blog", "a", "1").await.is(201);
    api.deploy("blog", "a", "2").await.is(200);
    api.post("/apps/blog/scripts/a/rollback", json!({ "version": 1 })).await.is(200);
    let route = api.post("/apps/blog/routes", json!({ "path": "/a", "script": "a" })).await;
    let route = format!("/apps/blog/routes/{}", route.is(201)["id"].as_str().unwrap());
    api.call("PATCH", &route, Some(json!({ "path": "/b" }))).await.is(200);
    assert_eq!(api.call("DELETE", &route, None).await.status, 204);
    api.post("/apps/blog/members", json!({ "user": "bob", "role": "viewer" })).await.is(201);
    api.call("PATCH", "/apps/blog/members/bob", Some(json!({ "role": "editor" }))).await.is(200);
    assert_eq!(api.call("DELETE", "/apps/blog/members/bob", None).await.status, 204);
    assert_eq!(api.call("DELETE", "/apps/blog/scripts/a", None).await.status, 204);
    api.post("/apps/blog:assign", json!({ "user": "bob" })).await.is(200);
    let of_app = actions(&api, "/apps/blog/audit").await;
    assert_eq!(
        of_app,
        [
            "app.create",
            "app.update",
            "script.deploy",
            "script.deploy",
            "script.rollback",
            "route.create",
            "route.update",
            "route.delete",
            "member.add",
            "member.update",
            "member.remove",
            "script.delete",
            "app.assign",
        ]
    );
    // What an app did outlives it.
    assert_eq!(api.call("DELETE", "/apps/blog", None).await.status, 204);
    assert_eq!(actions(&api, "/audit?action=app.delete").await, ["app.delete"]);
    assert_eq!(actions(&api, "/audit?actor=nobody").await, [] as [&str; 0]);
}

#[tokio::test]
async fn an_entry_says_who_from_where_and_what_changed() {
    let api = TestApi::start().await;
    let mut request = api.request("PATCH", "/apps/default", Some(json!({ "name": "Home" })));
    request.extensions_mut().insert(shared::http::ClientAddress("192.0.2.7".parse().unwrap()));
    api.send(request).await.is(200);
    let reply = api.get("/apps/default/audit?limit=1").await;
    let entry = &reply.is(200)["items"][0];
    assert_eq!((&entry["actor_name"], &entry["credential"]), (&json!("ada"), &json!("session")));
    assert_eq!((&entry["remote_address"], &entry["request_id"]), (&json!("192.0.2.7"), &json!("request-1")));
    assert_eq!((&entry["action"], &entry["target"]), (&json!("app.update"), &json!("default")));
    let digest = |member: &str| entry[member].as_str().unwrap().to_owned();
    assert_eq!(digest("before_digest").len(), 64);
    assert_ne!(digest("before_digest"), digest("after_digest"));
}

#[tokio::test]
async fn the_database_refuses_to_change_the_log() {
    let api = TestApi::start().await;
    let mut conn = api.database.connect().await;
    for sql in [
        "update audit_log set target = 'x'",
        "delete from audit_log",
        "truncate audit_log",
        "set session_replication_role = replica; delete from audit_log",
    ] {
        let error = sqlx::raw_sql(sql).execute(&mut conn).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "{sql}: {error}");
    }
}

#[tokio::test]
async fn a_log_that_was_changed_behind_our_back_is_found_out() {
    let api = TestApi::start().await;
    for slug in ["a", "b", "c"] {
        api.post("/apps", json!({ "slug": slug })).await.is(201);
    }
    let intact = api.get("/audit:verify").await;
    assert_eq!((&intact.is(200)["is_intact"], &intact.json["broken_at"]), (&json!(true), &Value::Null));
    let entries = intact.json["entries"].as_i64().unwrap();
    let head = api.get("/audit?limit=1").await.is(200)["items"][0]["hash"].clone();
    assert_eq!(intact.json["head"], head);

    let by_hand = async |sql: &str| {
        let off = "alter table audit_log disable trigger audit_log_append_only";
        let on = "alter table audit_log enable always trigger audit_log_append_only";
        api.database.execute(&format!("{off}; {sql}; {on}")).await;
        api.get("/audit:verify").await.is(200)["broken_at"].clone()
    };
    let second = entries - 1;
    assert_eq!(by_hand(&format!("update audit_log set target = 'z' where number = {second}")).await, second);
    assert_eq!(
        by_hand(&format!("update audit_log set target = 'b' where number = {second}")).await,
        Value::Null
    );
    assert_eq!(by_hand(&format!("delete from audit_log where number = {second}")).await, second);
}

#[tokio::test]
async fn changes_at_once_are_chained_one_behind_the_other() {
    let api = TestApi::start().await;
    let made = futures_util::future::join_all((0..12).map(|n| {
        let api = &api;
        async move { api.post("/apps", json!({ "slug": format!("app-{n}") })).await }
    }));
    for reply in made.await {
        reply.is(201);
    }
    let verdict = api.get("/audit:verify").await;
    assert_eq!(verdict.is(200)["is_intact"], true, "{verdict:?}");
}

/// Everybody's changes wait while entries are written, so a manifest's are not written one by one.
#[tokio::test]
async fn what_a_manifest_changes_is_chained_in_its_order_by_one_statement() {
    let api = TestApi::start().await;
    api.database
        .execute(
            "create table statements (n int);
             create function count_statement() returns trigger language plpgsql as $$
             begin
                 insert into statements values (1);
                 return null;
             end $$;
             create trigger count_statements after insert on audit_log
                 for each statement execute function count_statement()",
        )
        .await;
    let topics: Vec<_> = (0..300).map(|n| json!({ "name": format!("topic-{n:03}") })).collect();
    let applied = api.post("/apps/default:apply", json!({ "scripts": {}, "topics": topics })).await;
    let changes = applied.is(200)["changes"].as_array().unwrap();
    let made: Vec<_> = changes.iter().map(|change| change["name"].clone()).collect();
    assert_eq!(api.database.scalar::<i64>("select count(*) from statements").await, 1);
    let entries = api.all_pages("/apps/default/audit", 200).await;
    let targets: Vec<_> = entries.iter().rev().map(|entry| entry["target"].clone()).collect();
    assert!(made.len() > 300 && targets.ends_with(&made), "{targets:?}");
    assert_eq!(api.get("/audit:verify").await.is(200)["is_intact"], true);
}
