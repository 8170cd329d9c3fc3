//! What documents must be like: said by people, held by every way that a document comes in.

use serde_json::{Value, json};
use shared::host_call::HostOp;
use shared::host_call::atomic::{Commit, Op};
use shared::host_call::docs::{Create, Created, Mode, Update};

use crate::calls::Script;
use crate::harness::TestApi;

const PATH: &str = "/apps/default/doc-schemas/orders";

fn schema() -> Value {
    json!({ "schema": {
        "type": "object",
        "required": ["total"],
        "properties": { "total": { "type": "number", "minimum": 0 }, "note": { "type": "string" } },
        "additionalProperties": false,
    }})
}

async fn create(script: &Script, data: &str) -> Result<String, String> {
    let answer = script.call(HostOp::DocsCreate, &Create { collection: "orders", data }).await?;
    Ok(answer.read::<Created<'_>>().id.to_owned())
}

async fn update(script: &Script, id: &str, data: &str, mode: Mode) -> Result<(), String> {
    let update = Update { collection: "orders", id, data, mode, if_version: None };
    script.call(HostOp::DocsUpdate, &update).await.map(drop)
}

#[tokio::test]
async fn no_way_leads_past_the_schema_of_a_collection() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let before = create(&script, r#"{"old":true}"#).await.unwrap();
    api.call("PUT", PATH, Some(schema())).await.is(200);
    let invalid = || Err("invalid_argument".to_owned());

    let id = create(&script, r#"{"total":1}"#).await.unwrap();
    assert_eq!(create(&script, r#"{"total":-1}"#).await.map(drop), invalid());
    assert_eq!(update(&script, &id, "{}", Mode::Replace).await, invalid());
    assert_eq!(update(&script, &id, r#"{"note":1}"#, Mode::Merge).await, invalid());
    assert_eq!(update(&script, &id, r#"{"total":null}"#, Mode::Merge).await, invalid());
    assert_eq!(update(&script, &id, r#"{"note":"n"}"#, Mode::Merge).await, Ok(()));
    let ops = vec![
        Op::DocsCreate(Create { collection: "orders", data: r#"{"total":2}"# }),
        Op::DocsCreate(Create { collection: "orders", data: r#"{"total":"2"}"# }),
    ];
    assert_eq!(script.call(HostOp::AtomicCommit, &Commit { ops }).await.map(drop), invalid());
    let docs = "/apps/default/docs/orders";
    let refused = api.post(docs, json!({ "data": { "total": "much" } })).await;
    let refused = refused.is_problem("invalid_input");
    assert!(refused["detail"].as_str().unwrap().contains("/total"), "{refused}");
    let path = format!("{docs}/{id}");
    api.call("PATCH", &path, Some(json!({ "data": { "total": null } }))).await.is_problem("invalid_input");
    assert_eq!(
        api.get(&path).await.is(200)["data"],
        json!({ "total": 1, "note": "n" }),
        "nothing was changed"
    );
    let count: i64 = api.database.scalar("select count(*) from docs").await;
    assert_eq!(count, 2, "nothing that was refused is there");

    // What was there before stays, and what fits may be made of it.
    assert_eq!(update(&script, &before, r#"{"total":3}"#, Mode::Merge).await, invalid());
    assert_eq!(update(&script, &before, r#"{"total":3}"#, Mode::Replace).await, Ok(()));
    let other = Create { collection: "others", data: "{}" };
    script.call(HostOp::DocsCreate, &other).await.unwrap();
    assert_eq!(api.call("DELETE", PATH, None).await.status, 204);
    create(&script, r#"{"total":-1}"#).await.unwrap();
    api.call("DELETE", PATH, None).await.is_problem("not_found");
}

#[tokio::test]
async fn a_schema_is_its_apps_and_changes_at_once() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    let (script, other) = (Script::of(&api, "default").await, Script::of(&api, "other").await);
    api.call("PUT", PATH, Some(schema())).await.is(200);
    create(&other, "{}").await.unwrap();
    create(&script, "{}").await.unwrap_err();
    api.call("PUT", PATH, Some(json!({ "schema": { "maxProperties": 0 } }))).await.is(200);
    create(&script, "{}").await.unwrap();
    create(&script, r#"{"total":1}"#).await.unwrap_err();
    let list = api.get("/apps/default/doc-schemas").await;
    assert_eq!(list.is(200)["items"][0]["schema"], json!({ "maxProperties": 0 }));
    for bad in [json!({ "type": "no such" }), json!({ "$ref": "https://example.com" }), json!(1)] {
        api.call("PUT", PATH, Some(json!({ "schema": bad }))).await.is_problem("invalid_input");
    }
}
