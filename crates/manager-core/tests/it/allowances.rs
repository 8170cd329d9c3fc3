//! What the calls of one execution may use up besides their number.

use serde_json::json;
use shared::host_call::HostOp;
use shared::host_call::kv::{Key, Keys, List};
use shared::host_call::pubsub::{Publish, Published};
use shared::limits::{EVENTS_MAX, KV_LIST_MAX, ROWS_MAX};

use crate::calls::Script;
use crate::harness::TestApi;

#[tokio::test]
async fn an_execution_reads_so_many_rows_and_no_more() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    // Rows that there are not cost nothing.
    let list = List { collection: "c", prefix: "", limit: KV_LIST_MAX, after: "" };
    for _ in 0..=ROWS_MAX / KV_LIST_MAX {
        script.call(HostOp::KvList, &list).await.unwrap();
    }
    let keys = Keys { collection: "c", keys: vec!["k"; KV_LIST_MAX as usize] };
    for _ in 0..ROWS_MAX / KV_LIST_MAX {
        script.call(HostOp::KvGetMany, &keys).await.unwrap();
    }
    let key = Key { collection: "c", key: "k" };
    assert_eq!(script.call(HostOp::KvGet, &key).await, Err("budget_exhausted".into()));
    assert_eq!(script.call(HostOp::KvList, &list).await, Err("budget_exhausted".into()));
    let another = Script::of(&api, "default").await;
    assert!(another.call(HostOp::KvGet, &key).await.is_ok(), "each execution has its own");
}

#[tokio::test]
async fn an_execution_causes_so_many_events_and_no_more() {
    const LISTENERS: u32 = 50;
    let api = TestApi::start().await;
    api.deploy("default", "listens", "1").await.is(201);
    for _ in 0..LISTENERS {
        let body = json!({ "kind": "pubsub", "script": "listens", "config": { "topic": "t" } });
        api.post("/apps/default/triggers", body).await.is(201);
    }
    let script = Script::of(&api, "default").await;
    let publish = Publish { topic: "t", message: "1" };
    for _ in 0..EVENTS_MAX / LISTENERS {
        let told = script.call(HostOp::PubsubPublish, &publish).await.unwrap();
        assert_eq!(told.read::<Published>().receivers, LISTENERS);
    }
    for op in [HostOp::PubsubPublish, HostOp::PubsubPublishEphemeral] {
        assert_eq!(script.call(op, &publish).await, Err("budget_exhausted".into()));
    }
    let unheard = Publish { topic: "nobody", message: "1" };
    let told = script.call(HostOp::PubsubPublish, &unheard).await.unwrap();
    assert_eq!(told.read::<Published>().receivers, 0, "what nobody hears costs nothing");
}
