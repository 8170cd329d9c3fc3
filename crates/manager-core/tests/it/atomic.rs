//! `atomic::commit`: all or nothing.

use serde::Serialize;
use shared::host_call::HostOp;
use shared::host_call::atomic::{Committed, Op};
use shared::host_call::docs::{Create, Id, Mode, Update};
use shared::host_call::kv::{Condition, Found, Incr, Key, Set};
use shared::host_call::pubsub::Publish;
use shared::host_call::queue::Send;
use shared::limits::ATOMIC_OPS_MAX;

use crate::calls::Script;
use crate::harness::TestApi;

const A: Key<'_> = Key { collection: "c", key: "a" };
const B: Key<'_> = Key { collection: "c", key: "b" };

const fn set<'a>(key: &'a str, value: &'a str) -> Op<'a> {
    Op::KvSet(Set { collection: "c", key, value, ttl_ms: 0, condition: Condition::None })
}

async fn read(script: &Script, key: Key<'_>) -> Option<String> {
    let answer = script.call(HostOp::KvGet, &key).await.unwrap();
    answer.read::<Found<'_>>().value.map(str::to_owned)
}

async fn commit(script: &Script, ops: &[Op<'_>]) -> Result<Vec<String>, String> {
    #[derive(Serialize)]
    struct Borrowed<'a>(&'a [Op<'a>]);
    let answer = script.call(HostOp::AtomicCommit, &Borrowed(ops)).await?;
    Ok(answer.read::<Committed<'_>>().done.iter().map(|done| format!("{done:?}")).collect())
}

#[tokio::test]
async fn all_operations_happen_in_their_order() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let create = Op::DocsCreate(Create { collection: "d", data: "{\"n\":1}" });
    let incr = Op::KvIncr(Incr { collection: "c", key: "a", by: 2 });
    let done = commit(&script, &[Op::KvCheck(A, None), set("a", "1"), incr, create]).await.unwrap();
    assert_eq!((done[0].as_str(), done[2].as_str()), ("Nothing", "Sum(3)"));
    let id = done[3].trim_start_matches("Id(\"").trim_end_matches("\")").to_owned();
    assert_eq!(read(&script, A).await.as_deref(), Some("3"));

    let document = Id { collection: "d", id: &id };
    let update = Update { collection: "d", id: &id, data: "{\"m\":2}", mode: Mode::Merge, if_version: None };
    let done = commit(&script, &[Op::DocsUpdate(update), Op::DocsDelete(document), Op::KvDelete(A)]).await;
    assert_eq!(done.unwrap()[1..], ["Existed(true)", "Existed(true)"]);
    assert_eq!(commit(&script, &[Op::DocsCheck(document, None)]).await.unwrap(), ["Nothing"]);
}

#[tokio::test]
async fn one_that_fails_undoes_those_before_it() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    commit(&script, &[set("b", "\"text\"")]).await.unwrap();
    let incr = Op::KvIncr(Incr { collection: "c", key: "b", by: 1 });
    let nobody = Id { collection: "d", id: "nobody" };
    let gone = "00000000-0000-7000-8000-000000000000";
    let change =
        |id, mode| Op::DocsUpdate(Update { collection: "d", id, data: "{}", mode, if_version: Some(1) });
    let missing = Set { collection: "c", key: "a", value: "1", ttl_ms: 0, condition: Condition::Version(7) };
    for last in [
        incr,
        Op::KvCheck(B, None),
        Op::KvCheck(A, Some(7)),
        Op::KvSet(missing),
        Op::DocsCheck(nobody, Some(1)),
        change(gone, Mode::Replace),
        change(gone, Mode::Merge),
        change("nobody", Mode::Merge),
    ] {
        let failed = commit(&script, &[set("x", "1"), last]).await;
        assert_eq!(failed, Err("conflict".into()), "{last:?}");
        assert_eq!(read(&script, Key { collection: "c", key: "x" }).await, None);
        assert_eq!(read(&script, B).await.as_deref(), Some("\"text\""));
    }
    assert_eq!(commit(&script, &[]).await, Err("invalid_argument".into()));
    let many = vec![set("a", "1"); ATOMIC_OPS_MAX + 1];
    assert_eq!(commit(&script, &many).await, Err("invalid_argument".into()));
    assert_eq!(commit(&script, &[set("a", "1"), set("b", "{")]).await, Err("invalid_argument".into()));
}

#[tokio::test]
async fn messages_are_sent_together_with_the_changes_or_not_at_all() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    api.deploy("default", "listener", "1").await.is(201);
    let trigger =
        serde_json::json!({ "kind": "pubsub", "script": "listener", "config": { "topic": "orders.*" } });
    api.post("/apps/default/triggers", trigger).await.is(201);
    let sent = async || {
        let count = |table| format!("select count(*) from {table}");
        let queued: i64 = api.database.scalar(&count("queue_messages")).await;
        let events: i64 = api.database.scalar(&count("outbox")).await;
        (queued, events)
    };
    let send = |message| {
        Op::QueueSend(Send { queue: "q", message, delay_ms: 0, key: None, dedup: Some("order-17") })
    };
    let publish = |topic| Op::PubsubPublish(Publish { topic, message: "17" });
    let refused = commit(&script, &[send("1"), publish("orders.paid"), Op::KvCheck(A, Some(7))]).await;
    assert_eq!((refused, sent().await), (Err("conflict".into()), (0, 0)));
    let ops = [set("a", "1"), send("1"), publish("orders.paid"), publish("others")];
    let done = commit(&script, &ops).await.unwrap();
    assert!(done[1].starts_with("Id("), "{done:?}");
    assert_eq!((&done[2..], sent().await), (&["Receivers(1)".into(), "Receivers(0)".into()][..], (1, 1)));
    // The same under the same word is the same message; another one is a conflict, which undoes the rest.
    assert_eq!(commit(&script, &[send("1")]).await.unwrap()[0], done[1]);
    assert_eq!(commit(&script, &[publish("orders.paid"), send("2")]).await, Err("conflict".into()));
    for invalid in [publish("no topic"), send("{")] {
        assert_eq!(commit(&script, &[set("a", "2"), invalid]).await, Err("invalid_argument".into()));
    }
    assert_eq!((read(&script, A).await.as_deref(), sent().await), (Some("1"), (1, 1)));
}

#[tokio::test]
async fn of_many_transfers_that_cross_none_is_lost_and_none_waits_for_ever() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    commit(&script, &[set("a", "1000"), set("b", "1000")]).await.unwrap();
    let transfers = (0..40_i64).map(|n| {
        let (from, to) = if n % 2 == 0 { ("a", "b") } else { ("b", "a") };
        let ops = [
            Op::KvIncr(Incr { collection: "c", key: from, by: -n }),
            Op::KvIncr(Incr { collection: "c", key: to, by: n }),
        ];
        let script = &script;
        async move { commit(script, &ops).await }
    });
    for done in futures_util::future::join_all(transfers).await {
        done.unwrap();
    }
    let (a, b) = (read(&script, A).await.unwrap(), read(&script, B).await.unwrap());
    assert_eq!((a.as_str(), b.as_str()), ("1020", "980"));
}

#[tokio::test]
async fn of_many_who_check_the_same_version_one_commits() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let ops = [Op::KvCheck(A, None), set("a", "1")];
    let claims = (0..16).map(|_| commit(&script, &ops));
    let done = futures_util::future::join_all(claims).await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1);
}
