//! U+0000 wherever a text may stand: the database has no such letter, and a script that sends one is told so,
//! or that there is nothing of that name. It is never the platform that fails.

use serde_json::{Value, json};
use shared::host_call::HostOp;
use shared::host_call::atomic::{Commit, Op};
use shared::host_call::{dead_letters, docs, email, files, http, invoke, kv, pubsub, queue, secrets, users};
use shared::http::PairBlock;

use super::{encoded, print_row};
use crate::app_users::PASSWORD;
use crate::calls::Script;
use crate::harness::TestApi;

const ZERO: &str = "a\0b";
/// The same as JSON has it.
const ZERO_JSON: &str = r#""a\u0000b""#;

/// Every call that takes a text, once for each of its texts.
fn calls() -> Vec<(HostOp, Vec<u8>)> {
    let mut calls = Vec::new();
    for (collection, key) in [(ZERO, "k"), ("c", ZERO)] {
        for op in [HostOp::KvGet, HostOp::KvHas, HostOp::KvDelete, HostOp::KvEntry] {
            calls.push((op, encoded(&kv::Key { collection, key })));
        }
        let (condition, value) = (kv::Condition::None, "1");
        calls.push((HostOp::KvSet, encoded(&kv::Set { collection, key, value, ttl_ms: 0, condition })));
        calls.push((HostOp::KvIncr, encoded(&kv::Incr { collection, key, by: 1 })));
        calls.push((HostOp::KvGetMany, encoded(&kv::Keys { collection, keys: vec![key] })));
        let ops = vec![Op::KvCheck(kv::Key { collection, key }, None)];
        calls.push((HostOp::AtomicCommit, encoded(&Commit { ops })));
        for op in [HostOp::DocsGet, HostOp::DocsDelete] {
            calls.push((op, encoded(&docs::Id { collection, id: key })));
        }
        for op in [HostOp::FilesHead, HostOp::FilesDelete] {
            calls.push((op, encoded(&files::Id { collection, id: key })));
        }
        calls.push((HostOp::FilesRead, encoded(&files::Read { collection, id: key, offset: 0, version: 0 })));
        calls.push((HostOp::FilesUrl, encoded(&files::Link { collection, id: key, expires_s: 60 })));
    }
    for (collection, prefix, after) in [(ZERO, "", ""), ("c", ZERO, ""), ("c", "", ZERO)] {
        calls.push((HostOp::KvList, encoded(&kv::List { collection, prefix, limit: 1, after })));
        calls.push((HostOp::FilesList, encoded(&files::List { collection, limit: 1, after })));
        for op in [HostOp::DocsFind, HostOp::DocsCount] {
            calls.push((op, encoded(&docs::Find { collection, query: "{}", cursor: after })));
        }
    }
    for query in [
        r#"{"a\u0000b":1}"#,
        r#"{"a":"a\u0000b"}"#,
        r#"{"a":{"$contains":"\u0000"}}"#,
        r#"{"$sort":"\u0000"}"#,
    ] {
        calls.push((HostOp::DocsFind, encoded(&docs::Find { collection: "c", query, cursor: "" })));
        calls.push((HostOp::DocsCount, encoded(&docs::Find { collection: "c", query, cursor: "" })));
    }
    for data in [r#"{"a\u0000b":1}"#, r#"{"a":"a\u0000b"}"#] {
        calls.push((HostOp::DocsCreate, encoded(&docs::Create { collection: "c", data })));
    }
    let content = files::Content { upload: 0, data: b"x" };
    for (collection, name, content_type) in [(ZERO, "f", "a/b"), ("c", ZERO, "a/b"), ("c", "f", "a/b\0")] {
        let create = files::Create { collection, name, content_type, content };
        calls.push((HostOp::FilesCreate, encoded(&create)));
    }
    calls.extend(of_messages());
    calls.extend(of_people());
    calls
}

fn of_messages() -> Vec<(HostOp, Vec<u8>)> {
    let send = queue::Send { queue: "q", message: "1", delay_ms: 0, key: None, dedup: None };
    let mut with_secret = PairBlock::default();
    with_secret.push(b"authorization", b"a\0b\0{}");
    let ask = http::Request {
        method: "GET",
        url: "http://127.0.0.1/\0",
        headers: &[],
        secret_headers: &[],
        body: &[],
        timeout_ms: 0,
        follows: false,
    };
    let mail =
        email::Send { to: vec!["ada@example.com"], subject: "a", text: Some("b"), ..email::Send::default() };
    let later = invoke::InvokeAsync { script: ZERO, args: "1", delay_ms: 0, attempts: 0 };
    vec![
        (HostOp::QueueSend, encoded(&queue::Send { queue: ZERO, ..send })),
        (HostOp::QueueSend, encoded(&queue::Send { key: Some(ZERO), ..send })),
        (HostOp::QueueSend, encoded(&queue::Send { dedup: Some(ZERO), ..send })),
        (HostOp::QueueStats, encoded(&queue::Named { queue: ZERO })),
        (HostOp::PubsubPublish, encoded(&pubsub::Publish { topic: ZERO, message: "1" })),
        (HostOp::PubsubPublishEphemeral, encoded(&pubsub::Publish { topic: ZERO, message: "1" })),
        (HostOp::PubsubSubscriberToken, encoded(&pubsub::SubscriberToken { topics: vec![ZERO], ttl_s: 60 })),
        (HostOp::Invoke, encoded(&invoke::Invoke { script: ZERO, args: "1" })),
        (HostOp::InvokeAsync, encoded(&later)),
        (HostOp::HttpSend, encoded(&http::Request { method: ZERO, url: "http://127.0.0.1/", ..ask })),
        (HostOp::HttpSend, encoded(&ask)),
        (
            HostOp::HttpSend,
            encoded(&http::Request {
                url: "http://127.0.0.1/",
                secret_headers: with_secret.as_bytes(),
                ..ask
            }),
        ),
        (HostOp::EmailSend, encoded(&email::Send { to: vec![ZERO], ..mail.clone() })),
        (HostOp::EmailSend, encoded(&email::Send { subject: ZERO, ..mail.clone() })),
        (HostOp::EmailSend, encoded(&email::Send { from_name: Some(ZERO), ..mail.clone() })),
        (HostOp::EmailSend, encoded(&email::Send { text: Some(ZERO), ..mail })),
        (HostOp::DeadLettersGet, encoded(&dead_letters::One { id: ZERO, reason: "" })),
        (HostOp::DeadLettersReplay, encoded(&dead_letters::One { id: ZERO, reason: "" })),
        (HostOp::DeadLettersResolve, encoded(&dead_letters::One { id: ZERO, reason: ZERO })),
    ]
}

fn of_people() -> Vec<(HostOp, Vec<u8>)> {
    let register = users::Register { login: "eve", password: PASSWORD, profile: "{}" };
    let mut calls = vec![
        (HostOp::SecretsGet, encoded(&secrets::SecretName { name: ZERO })),
        (HostOp::SecretsDelete, encoded(&secrets::SecretName { name: ZERO })),
        (HostOp::SecretsSet, encoded(&secrets::SetSecret { name: ZERO, value: "v" })),
        (HostOp::UsersRegister, encoded(&users::Register { login: ZERO, ..register })),
        (HostOp::UsersRegister, encoded(&users::Register { profile: r#"{"a\u0000":"\u0000"}"#, ..register })),
        (HostOp::UsersLogin, encoded(&users::Login { login: ZERO, password: ZERO })),
        (HostOp::UsersLogout, encoded(&users::Logout { token: Some(ZERO) })),
        (HostOp::UsersReset, encoded(&users::Named { login: ZERO })),
        (HostOp::UsersList, encoded(&users::List { limit: 1, after: ZERO })),
        (HostOp::UsersUpdate, encoded(&users::Update { id: ZERO, ..users::Update::default() })),
        (HostOp::UsersResetPassword, encoded(&users::ResetPassword { token: ZERO, password: PASSWORD })),
    ];
    for op in [HostOp::UsersGet, HostOp::UsersDelete, HostOp::UsersVerification] {
        calls.push((op, encoded(&users::Id { id: ZERO })));
    }
    for op in [HostOp::UsersMe, HostOp::UsersVerify] {
        calls.push((op, encoded(&users::Token { token: ZERO })));
    }
    calls
}

#[tokio::test]
async fn attack_25_zeros_in_every_argument() {
    let api = TestApi::start().await;
    let owner = api.get("/auth/me").await.is(200)["id"].as_str().unwrap().parse().unwrap();
    let script = Script::of(&api, "default").await.on_behalf_of(owner);
    let mut tried = std::collections::BTreeSet::new();
    for (op, args) in calls() {
        let answer = script.call_bytes(op, args).await;
        let seen = answer.as_ref().map_or_else(String::as_str, |_| "nothing of that name");
        print_row("25", &format!("U+0000 in {op:?}"), "refused, or nothing of that name", seen);
        if let Err(code) = &answer {
            assert!(!matches!(code.as_str(), "internal" | "unavailable" | "forged"), "{op:?}: {code}");
        }
        tried.insert(format!("{op:?}"));
    }
    // Those that take no text, and those that only go on with what others began.
    let without =
        ["Log", "RetryWait", "SecretsList", "DeadLettersList", "FilesAppend", "DocsUpdate", "FilesUpdate"];
    let missing: Vec<_> =
        HostOp::ALL.iter().map(|op| format!("{op:?}")).filter(|op| !tried.contains(op)).collect();
    assert!(missing.iter().all(|op| without.contains(&op.as_str())), "{missing:?}");
}

/// Values are JSON text, in which U+0000 may well be: it is kept, told and handed on.
#[tokio::test]
async fn attack_25_zeros_in_values_are_kept_and_told() {
    let api = TestApi::start().await;
    api.deploy("default", "hears", "1").await.is(201);
    for (kind, config) in [
        ("kv", json!({ "collection": "c" })),
        ("queue", json!({ "queue": "q" })),
        ("pubsub", json!({ "topic": "t" })),
    ] {
        let trigger = json!({ "kind": kind, "script": "hears", "config": config });
        api.post("/apps/default/triggers", trigger).await.is(201);
    }
    let script = Script::of(&api, "default").await;
    let condition = kv::Condition::None;
    let set = kv::Set { collection: "c", key: "k", value: ZERO_JSON, ttl_ms: 0, condition };
    for _ in 0..2 {
        script.call(HostOp::KvSet, &set).await.unwrap();
    }
    let kept = script.call(HostOp::KvGet, &kv::Key { collection: "c", key: "k" }).await.unwrap();
    let value = kept.read::<kv::Found<'_>>().value;
    print_row("25", "U+0000 in a value", ZERO_JSON, value.unwrap_or("nothing"));
    assert_eq!(value, Some(ZERO_JSON));
    let send = queue::Send { queue: "q", message: ZERO_JSON, delay_ms: 60_000, key: None, dedup: None };
    script.call(HostOp::QueueSend, &send).await.unwrap();
    let publish = pubsub::Publish { topic: "t", message: ZERO_JSON };
    assert_eq!(
        script.call(HostOp::PubsubPublish, &publish).await.unwrap().read::<pubsub::Published>().receivers,
        1
    );
    let later = invoke::InvokeAsync { script: "hears", args: ZERO_JSON, delay_ms: 60_000, attempts: 0 };
    script.call(HostOp::InvokeAsync, &later).await.unwrap();
    assert_eq!(api.get("/apps/default/kv/c/k").await.is(200)["value"], Value::from(ZERO));
    let waiting = api.get("/apps/default/queues/q/messages").await;
    assert!(waiting.is(200)["items"][0].to_string().contains("\\u0000"), "{waiting:?}");
}
