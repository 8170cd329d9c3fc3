//! Indexes of documents: declared, built beside everything else, used, and gone again.

use serde_json::{Value, json};
use shared::host_call::HostOp;
use shared::host_call::docs::{Create, Find, Page};

use crate::calls::Script;
use crate::harness::TestApi;
use crate::outbox::eventually;

const PATH: &str = "/apps/default/doc-indexes";

async fn declare(api: &TestApi, collection: &str, members: Value) -> String {
    let made = api.post(PATH, json!({ "collection": collection, "members": members })).await;
    assert_eq!(made.is(201)["state"], "building");
    made.json["id"].as_str().unwrap().to_owned()
}

/// What the API says of an index once it is not being built any more.
async fn settled(api: &TestApi, id: &str) -> Value {
    eventually("the index is built or has failed", async || {
        let list = api.get(PATH).await;
        let items = list.is(200)["items"].as_array().unwrap().clone();
        items.into_iter().find(|index| index["id"] == id && index["state"] != "building")
    })
    .await
}

async fn built(api: &TestApi) -> i64 {
    api.database.scalar("select count(*) from pg_indexes where indexname like 'docs\\_by\\_%'").await
}

async fn fill(api: &TestApi, script: &Script, collection: &str) {
    for n in 0..3 {
        let data = json!({ "status": "open", "nested": { "n": n }, "it's \"odd\\": n }).to_string();
        script.call(HostOp::DocsCreate, &Create { collection, data: &data }).await.unwrap();
    }
    let app = api.get("/apps/default").await.is(200)["id"].as_str().unwrap().to_owned();
    let sql = format!(
        "with made as (
             insert into docs (app_id, collection, id, data)
             select '{app}', '{}', gen_random_uuid(), jsonb_build_object('status', 'done', 'n', n)
             from generate_series(1, 5000) n returning 1)
         select count(*) from made",
        collection.replace('\'', "''")
    );
    assert_eq!(api.database.scalar::<i64>(&sql).await, 5000);
}

#[tokio::test]
async fn a_declared_index_is_built_used_and_gone_when_it_is_removed() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    fill(&api, &script, "orders").await;
    let id = declare(&api, "orders", json!(["status", "nested.n"])).await;
    assert_eq!(settled(&api, &id).await["state"], "ready");
    assert_eq!(built(&api).await, 1);
    let query = json!({ "status": "open", "$sort": "-nested.n", "$limit": 2 }).to_string();
    let find = Find { collection: "orders", query: &query, cursor: "" };
    let used = format!(
        "select coalesce(sum(idx_scan), 0)::bigint from pg_stat_user_indexes where indexrelname = 'docs_by_{}'",
        id.replace('-', "")
    );
    eventually("the planner takes the index", async || {
        let answer = script.call(HostOp::DocsFind, &find).await.unwrap();
        let page: Page<'_> = answer.read();
        let first: Value = serde_json::from_str(page.documents[0].data).unwrap();
        assert_eq!((page.documents.len(), &first["nested"]["n"]), (2, &json!(2)));
        let scans: i64 = api.database.scalar(&used).await;
        (scans > 0).then_some(())
    })
    .await;
    assert_eq!(api.call("DELETE", &format!("{PATH}/{id}"), None).await.status, 204);
    eventually("the index is dropped", async || (built(&api).await == 0).then_some(())).await;
    api.call("DELETE", &format!("{PATH}/{id}"), None).await.is_problem("not_found");
}

/// Names and members are anybody's texts: they are data in the statement that builds, and no part of it.
#[tokio::test]
async fn attack_26_no_name_or_member_is_a_part_of_the_statement() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let odd = "a'); drop table docs; --\\";
    fill(&api, &script, odd).await;
    for members in [
        json!(["it's \"odd\\"]),
        json!(["'::text[]) where true; drop table docs; --"]),
        json!(["{a,b}", "a,b"]),
    ] {
        let id = declare(&api, odd, members).await;
        assert_eq!(settled(&api, &id).await["state"], "ready");
    }
    let rows: i64 = api.database.scalar("select count(*) from docs").await;
    assert_eq!(rows, 5003);
}

#[tokio::test]
async fn what_cannot_be_indexed_is_refused_or_fails_and_says_why() {
    let api = TestApi::start().await;
    for (collection, members) in [
        ("", json!(["a"])),
        ("c", json!([])),
        ("c", json!(["a", "a"])),
        ("c", json!(["$a"])),
        ("c", json!(["a..b"])),
        ("c", json!(["a", "b", "c", "d", "e"])),
    ] {
        let refused = api.post(PATH, json!({ "collection": collection, "members": members })).await;
        assert_eq!(refused.status, 422, "{collection:?} {members}: {refused:?}");
    }
    let script = Script::of(&api, "default").await;
    // Random, so that it cannot be made short.
    let long: String = (0..20_000_u64)
        .map(|n| char::from(b'a' + ((n * n * 2_654_435_761) >> 21).to_le_bytes()[0] % 26))
        .collect();
    let data = json!({ "text": long }).to_string();
    script.call(HostOp::DocsCreate, &Create { collection: "long", data: &data }).await.unwrap();
    let id = declare(&api, "long", json!(["text"])).await;
    let failed = settled(&api, &id).await;
    assert_eq!(failed["state"], "failed");
    assert!(failed["error"].as_str().unwrap().contains("size"), "{failed}");
    assert_eq!(built(&api).await, 0, "nothing half built is left");
    api.post(PATH, json!({ "collection": "long", "members": ["text"] })).await.is_problem("conflict");
}

#[tokio::test]
async fn what_was_being_built_when_the_process_ended_is_built_by_the_next() {
    let mut api = TestApi::start().await;
    let id = declare(&api, "c", json!(["a"])).await;
    assert_eq!(settled(&api, &id).await["state"], "ready");
    // As if the process had ended before it could say so, and an app had been removed meanwhile.
    api.database.execute("update doc_indexes set state = 'building'").await;
    api.restart().await;
    assert_eq!(settled(&api, &id).await["state"], "ready");
    api.database.execute("delete from doc_indexes").await;
    api.restart().await;
    eventually("nobody's index is dropped", async || (built(&api).await == 0).then_some(())).await;
}
