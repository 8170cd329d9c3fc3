//! How much an app may keep as values and documents.

use std::sync::Arc;

use serde_json::{Value, json};
use shared::host_call::HostOp;
use shared::host_call::atomic::{Commit, Op};
use shared::host_call::{docs, kv};
use shared::limits::{DATA_BYTES_MAX, FILES_BYTES_MAX, KV_VALUE_BYTES_MAX};
use tokio::task::JoinSet;

use crate::calls::Script;
use crate::harness::TestApi;

/// Seventeen of the values fit with what each row takes besides.
const LIMIT: i64 = 20_000;
const FITTING: usize = 17;
/// Short enough not to be compressed.
const CHARS: usize = 1_000;

fn value() -> String {
    format!("\"{}\"", "x".repeat(CHARS))
}

fn set<'a>(key: &'a str, value: &'a str) -> kv::Set<'a> {
    kv::Set { collection: "c", key, value, ttl_ms: 0, condition: kv::Condition::None }
}

async fn put(script: &Script, key: &str) -> Result<(), String> {
    script.call(HostOp::KvSet, &set(key, &value())).await.map(drop)
}

fn full<T>() -> Result<T, String> {
    Err("budget_exhausted".into())
}

/// Writes values until one is refused; answers how many were not.
async fn fill(script: &Script, prefix: &str) -> usize {
    for number in 0..100 {
        match put(script, &format!("{prefix}{number}")).await {
            Ok(()) => {}
            refused => {
                assert_eq!(refused, full());
                return number;
            }
        }
    }
    panic!("five times what fits was taken");
}

async fn limit(api: &TestApi, bytes: i64) {
    api.call("PUT", "/apps/default/budgets", Some(json!({ "data_bytes": bytes }))).await.is(200);
}

async fn usage(api: &TestApi) -> Value {
    api.get("/apps/default/usage").await.is(200).clone()
}

async fn limited() -> (TestApi, Script) {
    let api = TestApi::start().await;
    limit(&api, LIMIT).await;
    let script = Script::of(&api, "default").await;
    (api, script)
}

#[tokio::test]
async fn a_full_app_keeps_nothing_more_until_something_is_removed() {
    let (api, script) = limited().await;
    assert_eq!(fill(&script, "k").await, FITTING);
    let (value, document) = (value(), format!("{{\"a\":{}}}", value()));
    let create = docs::Create { collection: "d", data: &document };
    let commit = Commit { ops: vec![Op::KvSet(set("new", &value))] };
    assert_eq!(put(&script, "new").await, full());
    assert_eq!(script.call(HostOp::DocsCreate, &create).await, full());
    assert_eq!(script.call(HostOp::AtomicCommit, &commit).await, full());
    let body = json!({ "value": "x".repeat(CHARS) });
    let refused = api.call("PUT", "/apps/default/kv/c/new", Some(body)).await;
    let detail = refused.is_problem("budget_exhausted")["detail"].as_str().unwrap();
    assert!(detail.contains("data_bytes") && detail.contains("20000"), "{detail}");
    let body = json!({ "value": "x".repeat(KV_VALUE_BYTES_MAX) });
    api.call("PUT", "/apps/default/kv/c/new", Some(body)).await.is_problem("body_too_large");
    let body = json!({ "data": { "a": "x".repeat(CHARS) } });
    api.post("/apps/default/docs/d", body).await.is_problem("budget_exhausted");

    // What removes is never refused, and what it removed makes room at once: by itself, in a commit, by people.
    script.call(HostOp::KvDelete, &kv::Key { collection: "c", key: "k0" }).await.unwrap();
    script.call(HostOp::DocsCreate, &create).await.unwrap();
    assert_eq!(put(&script, "new").await, full());
    let remove = Op::KvDelete(kv::Key { collection: "c", key: "k1" });
    script.call(HostOp::AtomicCommit, &Commit { ops: vec![remove] }).await.unwrap();
    script.call(HostOp::AtomicCommit, &commit).await.unwrap();
    assert_eq!(put(&script, "newer").await, full());
    api.call("DELETE", "/apps/default/kv/c/k2", None).await.is(204);
    put(&script, "newer").await.unwrap();
    assert_eq!(put(&script, "newest").await, full());
    limit(&api, 2 * LIMIT).await;
    put(&script, "newest").await.unwrap();
}

#[tokio::test]
async fn what_an_app_keeps_is_shown_and_worth_a_warning() {
    let (api, script) = limited().await;
    let seen = usage(&api).await;
    assert_eq!(seen["data_bytes"], json!({ "used": 0, "limit": LIMIT }));
    assert_eq!(seen["files_bytes"], json!({ "used": 0, "limit": FILES_BYTES_MAX }));
    assert_eq!(seen["level"], "ok");
    fill(&script, "k").await;
    let seen = usage(&api).await;
    let used = seen["data_bytes"]["used"].as_i64().unwrap();
    assert!((17_000..=LIMIT).contains(&used), "{used}");
    assert_eq!(seen["level"], "warn", "it stops nothing but what adds");
    api.call("PUT", "/apps/default/budgets", Some(json!({}))).await.is(200);
    assert_eq!(usage(&api).await["data_bytes"]["limit"], DATA_BYTES_MAX);
}

#[tokio::test]
async fn writing_the_same_key_over_and_over_takes_no_more_room() {
    let (_api, script) = limited().await;
    for _ in 0..2 * FITTING {
        put(&script, "k").await.unwrap();
    }
}

#[tokio::test]
async fn after_a_restart_an_eighth_more_is_taken_at_most() {
    let (mut api, script) = limited().await;
    assert_eq!(fill(&script, "k").await, FITTING);
    api.restart().await;
    let script = Script::of(&api, "default").await;
    let more = fill(&script, "more").await;
    assert!(more <= 3, "{more} more");
    // What was added unseen is seen now.
    assert_eq!(fill(&script, "no-more").await, 0);
}

#[tokio::test]
async fn attack_many_writes_at_once_do_not_slip_in_beside_each_other() {
    let (api, script) = limited().await;
    let script = Arc::new(script);
    let mut writers = JoinSet::new();
    for number in 0..4 * FITTING {
        let script = Arc::clone(&script);
        writers.spawn(async move { put(&script, &format!("k{number}")).await.is_ok() });
    }
    let taken = writers.join_all().await.into_iter().filter(|is_taken| *is_taken).count();
    assert!(taken <= FITTING, "{taken}");
    let kept: i64 = api.database.scalar("select count(*) from kv").await;
    assert_eq!(usize::try_from(kept), Ok(taken));
    assert_eq!(taken + fill(&script, "more").await, FITTING, "there is room for as many as fit");
}

#[tokio::test]
async fn attack_commits_that_are_taken_back_make_no_room() {
    let (_api, script) = limited().await;
    assert_eq!(fill(&script, "k").await, FITTING);
    let remove = Op::KvDelete(kv::Key { collection: "c", key: "k0" });
    let fails = Op::KvCheck(kv::Key { collection: "c", key: "k1" }, None);
    let commit = Commit { ops: vec![remove, fails] };
    for number in 0..3 {
        assert_eq!(script.call(HostOp::AtomicCommit, &commit).await, Err("conflict".into()));
        assert_eq!(put(&script, &format!("new{number}")).await, full());
    }
}
