//! What the calls of one execution may use up besides their number.

use serde_json::json;
use shared::host_call::HostOp;
use shared::host_call::atomic::{Commit, Op};
use shared::host_call::files;
use shared::host_call::kv::{Condition, Key, Keys, List, Set};
use shared::host_call::pubsub::{Publish, Published};
use shared::host_call::queue::Send;
use shared::limits::{EVENTS_MAX, FILES_LIST_MAX, KV_LIST_MAX, ROWS_MAX};

use crate::calls::Script;
use crate::catalogue::print_row;
use crate::harness::TestApi;
use crate::neighbour::Neighbour;

#[tokio::test]
async fn attack_rows_one_execution_reads_without_end() {
    let api = TestApi::start().await;
    let mut neighbour = Neighbour::beside(&api).await;
    let script = Script::of(&api, "default").await;
    // Rows that there are not cost nothing.
    let list = List { collection: "c", prefix: "", limit: KV_LIST_MAX, after: "" };
    for _ in 0..=ROWS_MAX / KV_LIST_MAX {
        script.call(HostOp::KvList, &list).await.unwrap();
    }
    let keys = Keys { collection: "c", keys: vec!["k"; KV_LIST_MAX as usize] };
    for _ in 0..ROWS_MAX / KV_LIST_MAX {
        script.call(HostOp::KvGetMany, &keys).await.unwrap();
        neighbour.is_well().await;
    }
    let key = Key { collection: "c", key: "k" };
    let code = script.call(HostOp::KvGet, &key).await.unwrap_err();
    print_row("rows", "by one execution", &format!("{ROWS_MAX}, then budget_exhausted"), &code);
    assert_eq!(code, "budget_exhausted");
    assert_eq!(script.call(HostOp::KvList, &list).await, Err("budget_exhausted".into()));
    let another = Script::of(&api, "default").await;
    assert!(another.call(HostOp::KvGet, &key).await.is_ok(), "each execution has its own");
    print_row("rows", "another app", "finds what it keeps", &neighbour.leave().await);
}

#[tokio::test]
async fn attack_17_one_execution_causes_events_without_end() {
    const LISTENERS: u32 = 50;
    let api = TestApi::start().await;
    api.deploy("default", "listens", "1").await.is(201);
    for _ in 0..LISTENERS {
        let body = json!({ "kind": "pubsub", "script": "listens", "config": { "topic": "t" } });
        api.post("/apps/default/triggers", body).await.is(201);
    }
    let mut neighbour = Neighbour::beside(&api).await;
    let script = Script::of(&api, "default").await;
    let publish = Publish { topic: "t", message: "1" };
    for _ in 0..EVENTS_MAX / LISTENERS {
        let told = script.call(HostOp::PubsubPublish, &publish).await.unwrap();
        assert_eq!(told.read::<Published>().receivers, LISTENERS);
        neighbour.is_well().await;
    }
    for op in [HostOp::PubsubPublish, HostOp::PubsubPublishEphemeral] {
        let code = script.call(op, &publish).await.unwrap_err();
        print_row("17", &format!("{op:?}"), &format!("{EVENTS_MAX} events, then budget_exhausted"), &code);
        assert_eq!(code, "budget_exhausted");
    }
    let unheard = Publish { topic: "nobody", message: "1" };
    let told = script.call(HostOp::PubsubPublish, &unheard).await.unwrap();
    assert_eq!(told.read::<Published>().receivers, 0, "what nobody hears costs nothing");
    print_row("17", "another app", "finds what it keeps", &neighbour.leave().await);
}

#[tokio::test]
async fn attack_rows_files_are_rows_too() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let list = files::List { collection: "c", limit: FILES_LIST_MAX, after: "" };
    for _ in 0..=ROWS_MAX / FILES_LIST_MAX {
        script.call(HostOp::FilesList, &list).await.unwrap();
    }
    let keys = Keys { collection: "c", keys: vec!["k"; KV_LIST_MAX as usize] };
    for _ in 0..ROWS_MAX / KV_LIST_MAX {
        script.call(HostOp::KvGetMany, &keys).await.unwrap();
    }
    let id = uuid::Uuid::now_v7().to_string();
    let id = files::Id { collection: "c", id: &id };
    let content = files::Content { upload: 0, data: b"content" };
    let create = files::Create { collection: "c", name: "a", content_type: "text/plain", content };
    for refused in [
        script.call(HostOp::FilesList, &list).await,
        script.call(HostOp::FilesHead, &id).await,
        script.call(HostOp::FilesDelete, &id).await,
        script.call(HostOp::FilesCreate, &create).await,
    ] {
        let code = refused.unwrap_err();
        print_row("rows", "of files", &format!("{ROWS_MAX}, then budget_exhausted"), &code);
        assert_eq!(code, "budget_exhausted");
    }
}

#[tokio::test]
async fn attack_17_changes_that_are_told_and_messages_of_a_commit_are_events_too() {
    const WATCHERS: u32 = 50;
    let api = TestApi::start().await;
    api.deploy("default", "watches", "1").await.is(201);
    for _ in 0..WATCHERS {
        let body = json!({ "kind": "kv", "script": "watches", "config": { "collection": "watched" } });
        api.post("/apps/default/triggers", body).await.is(201);
    }
    let script = Script::of(&api, "default").await;
    let set = Set { collection: "watched", key: "k", value: "1", ttl_ms: 0, condition: Condition::None };
    for _ in 1..EVENTS_MAX / WATCHERS {
        script.call(HostOp::KvSet, &set).await.unwrap();
    }
    let send = Send { queue: "q", message: "1", delay_ms: 0, key: None, dedup: None };
    script.call(HostOp::AtomicCommit, &Commit { ops: vec![Op::QueueSend(send); 50] }).await.unwrap();
    let after = Set { value: "2", ..set };
    let code = script.call(HostOp::KvSet, &after).await.unwrap_err();
    print_row("17", "changes that are told", &format!("{EVENTS_MAX} events, then budget_exhausted"), &code);
    assert_eq!(code, "budget_exhausted");
    assert_eq!(script.call(HostOp::QueueSend, &send).await, Err("budget_exhausted".into()));
    let unwatched = Set { collection: "c", ..set };
    let commit = Commit { ops: vec![Op::KvSet(unwatched), Op::QueueSend(send)] };
    assert_eq!(script.call(HostOp::AtomicCommit, &commit).await, Err("budget_exhausted".into()));
    let kept: i64 = api.database.scalar("select count(*) from kv where value::text = '1'").await;
    assert_eq!(kept, 1, "what is refused changes nothing");
    script.call(HostOp::KvSet, &unwatched).await.unwrap();
}
