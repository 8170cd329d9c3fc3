//! How many of each thing an app has, and what it is set to: what is at its limit is taken, what is one over
//! is refused in words that name the limit. Limits of what a single call may say are in `bounds`.

use std::fmt::Display;

use serde::Serialize;
use serde_json::{Value, json};
use shared::call::SUCCESS;
use shared::host_call::{CallFailure, HostOp, dead_letters, queue, users};
use shared::id::DeadLetterId;
use shared::limits::{
    APP_USER_ROLE_BYTES_MAX, APP_USERS_MAX, MESSAGE_BYTES_MAX, QUEUE_CONCURRENCY_MAX, QUEUE_MESSAGES_MAX,
    QUEUES_BYTES_MAX, TOPICS_MAX, TRIGGERS_MAX, WEBHOOK_PER_MINUTE_MAX, WEBHOOK_SECRETS_MAX,
};
use shared::wire::codec;

use crate::app_users::{Account, PASSWORD};
use crate::calls::Script;
use crate::catalogue::encoded;
use crate::harness::{Reply, TestApi};
use crate::outbox::eventually;

/// Asserts that a call is refused by this code, and says what the limit is.
async fn refuses<T: Serialize>(script: &Script, op: HostOp, args: &T, code: &str, limit: impl Display) {
    let reply = script.forge(op, encoded(args)).await;
    assert_ne!(reply.status, SUCCESS, "{op:?} is carried out");
    let failure: CallFailure<'_> = codec::decode_body(&reply.body).unwrap();
    assert_eq!(failure.code, code, "{failure:?}");
    assert!(failure.message.contains(&limit.to_string()), "{failure:?}");
}

/// The same of a request to the API.
#[track_caller]
fn is_refused(reply: &Reply, code: &str, limit: impl Display) {
    let detail = reply.is_problem(code)["detail"].as_str().unwrap();
    assert!(detail.contains(&limit.to_string()), "{detail}");
}

/// What the API says of the app as this manifest would have it.
async fn plan(api: &TestApi, manifest: Value) -> Reply {
    api.post("/apps/default:plan", manifest).await
}

#[tokio::test]
async fn an_app_has_as_many_users_as_the_limit_and_no_more() {
    let api = TestApi::start().await;
    // All but one are there already, and none of them logs in.
    api.database
        .execute(&format!(
            "insert into app_users (app_id, id, login, login_key, password_hash)
             select id, gen_random_uuid(), 'user' || number, 'user' || number, 'none'
             from apps, generate_series(1, {}) number
             where slug = 'default'",
            APP_USERS_MAX - 1
        ))
        .await;
    let script = Script::of(&api, "default").await;
    let register = |login| users::Register { login, password: PASSWORD, profile: "{}" };
    script.call(HostOp::UsersRegister, &register("last")).await.unwrap();
    refuses(&script, HostOp::UsersRegister, &register("one-more"), "budget_exhausted", APP_USERS_MAX).await;
    let kept: i64 = api.database.scalar("select count(*) from app_users").await;
    assert_eq!(kept, APP_USERS_MAX, "what was refused is not kept");
}

#[tokio::test]
async fn a_role_of_a_user_at_and_over_its_length() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let eve = Account::of(&script, "eve").await;
    let [longest, too_long] =
        [APP_USER_ROLE_BYTES_MAX, APP_USER_ROLE_BYTES_MAX + 1].map(|bytes| "r".repeat(bytes));
    let update = |role| users::Update { id: &eve.id, roles: Some(vec![role]), ..users::Update::default() };
    script.call(HostOp::UsersUpdate, &update(longest.as_str())).await.unwrap();
    let over = update(too_long.as_str());
    refuses(&script, HostOp::UsersUpdate, &over, "invalid_argument", APP_USER_ROLE_BYTES_MAX).await;

    let path = format!("/apps/default/users/{}", eve.id);
    let patch = async |role: &str| api.call("PATCH", &path, Some(json!({ "roles": [role] }))).await;
    assert_eq!(patch(&longest).await.is(200)["roles"], json!([longest]));
    is_refused(&patch(&too_long).await, "invalid_input", APP_USER_ROLE_BYTES_MAX);
}

#[tokio::test]
async fn as_many_messages_as_the_limit_wait_in_the_queues_of_an_app_and_no_more() {
    let api = TestApi::start().await;
    let consumer = json!({ "kind": "queue", "script": "hello", "config": { "queue": "handled" } });
    api.post("/apps/default/triggers", consumer).await.is(201);
    // All but one are there already, and nobody handles them.
    api.database
        .execute(&format!(
            "insert into queue_messages (app_id, queue, delivery_id, message, due_at, root_id, depth)
             select id, 'waiting', gen_random_uuid(), '1', now(), gen_random_uuid(), 0
             from apps, generate_series(1, {}) number
             where slug = 'default'",
            QUEUE_MESSAGES_MAX - 1
        ))
        .await;
    let send = |queue| queue::Send { queue, message: "1", delay_ms: 0, key: None, dedup: None };
    let script = Script::of(&api, "default").await;
    script.call(HostOp::QueueSend, &send("handled")).await.unwrap();
    // What waits is counted before any of it is handled.
    api.manager.start_events(api.pool.clone(), 1);
    let is_handled = || async { (!api.pool.requests().is_empty()).then_some(()) };
    eventually("a message is handled", is_handled).await;

    let script = Script::of(&api, "default").await;
    script.call(HostOp::QueueSend, &send("waiting")).await.unwrap();
    let over = send("waiting");
    refuses(&script, HostOp::QueueSend, &over, "budget_exhausted", QUEUE_MESSAGES_MAX).await;
    let by_hand = api.post("/apps/default/queues/waiting/messages", json!({ "message": 1 })).await;
    is_refused(&by_hand, "too_many_requests", QUEUE_MESSAGES_MAX);
    let kept: i64 = api.database.scalar("select count(*) from queue_messages").await;
    assert_eq!(u64::try_from(kept), Ok(QUEUE_MESSAGES_MAX), "what was refused is not kept");
}

#[tokio::test]
async fn attack_messages_of_as_many_bytes_as_the_limit_wait_in_the_queues_of_an_app_and_no_more() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    let consumer = json!({ "kind": "queue", "script": "hello", "config": { "queue": "handled" } });
    api.post("/apps/default/triggers", consumer).await.is(201);
    // All but the longest message are there already, and nobody handles them.
    api.database
        .execute(&format!(
            "insert into queue_messages (app_id, queue, delivery_id, message, bytes, due_at, root_id, depth)
             select id, 'waiting', gen_random_uuid(), '1', {}, now(), gen_random_uuid(), 0
             from apps
             where slug = 'default'",
            QUEUES_BYTES_MAX - MESSAGE_BYTES_MAX as u64
        ))
        .await;
    let limit = format!("{} MiB", QUEUES_BYTES_MAX >> 20);
    let longest = json!("x".repeat(MESSAGE_BYTES_MAX - 2));
    let longest_text = longest.to_string();
    let send = |queue, message, key| queue::Send { queue, message, delay_ms: 0, key, dedup: None };
    let script = Script::of(&api, "default").await;
    script.call(HostOp::QueueSend, &send("handled", "1", None)).await.unwrap();
    // What waits is counted before any of it is handled.
    api.manager.start_events(api.pool.clone(), 1);
    let is_handled = || async { (!api.pool.requests().is_empty()).then_some(()) };
    eventually("a message is handled", is_handled).await;

    let script = Script::of(&api, "default").await;
    script.call(HostOp::QueueSend, &send("waiting", &longest_text, None)).await.unwrap();
    refuses(&script, HostOp::QueueSend, &send("another", "1", None), "budget_exhausted", &limit).await;
    let by_hand = api.post("/apps/default/queues/waiting/messages", json!({ "message": 1 })).await;
    is_refused(&by_hand, "too_many_requests", &limit);
    let other = api.post("/apps/other/queues/waiting/messages", json!({ "message": longest })).await;
    other.is(202);

    // What is thrown away makes room, unless it was being counted just then.
    let purged = api.post("/apps/default/queues/waiting:purge", json!({})).await;
    assert_eq!(purged.is(200)["messages"], 2);
    let with_key = send("waiting", &longest_text, Some("k"));
    let again = || async { script.call(HostOp::QueueSend, &with_key).await.ok() };
    eventually("there is room again", again).await;
    let bytes: i32 = api.database.scalar("select bytes from queue_messages where key = 'k'").await;
    assert_eq!(usize::try_from(bytes), Ok(MESSAGE_BYTES_MAX + 1));
}

#[tokio::test]
async fn an_app_has_as_many_triggers_as_the_limit_and_no_more() {
    let api = TestApi::start().await;
    let trigger = json!({ "kind": "kv", "script": "hello", "config": { "collection": "c" } });
    let create = async || api.post("/apps/default/triggers", trigger.clone()).await;
    create().await.is(201);
    // All but one are there now.
    api.database
        .execute(&format!(
            "insert into triggers (app_id, id, kind, script_id, config, retry, registered_by)
             select app_id, gen_random_uuid(), kind, script_id, config, retry, registered_by
             from triggers, generate_series(1, {}) number",
            TRIGGERS_MAX - 2
        ))
        .await;
    create().await.is(201);
    is_refused(&create().await, "invalid_input", TRIGGERS_MAX);

    let manifest = |count: usize| {
        let triggers: Vec<_> = (0..count)
            .map(|number| {
                let mut named = trigger.clone();
                named["name"] = json!(format!("trigger-{number}"));
                named
            })
            .collect();
        json!({ "scripts": { "hello": { "source": "1" } }, "triggers": triggers })
    };
    plan(&api, manifest(TRIGGERS_MAX)).await.is(200);
    is_refused(&plan(&api, manifest(TRIGGERS_MAX + 1)).await, "invalid_input", TRIGGERS_MAX);
}

#[tokio::test]
async fn an_app_registers_as_many_topics_as_the_limit_and_no_more() {
    let api = TestApi::start().await;
    // All but one are there already.
    api.database
        .execute(&format!(
            "insert into topics (app_id, name, is_external, auth_mode, description)
             select id, 'topic-' || number, false, 'token', ''
             from apps, generate_series(1, {}) number
             where slug = 'default'",
            TOPICS_MAX - 1
        ))
        .await;
    let register = async |name: &str| api.post("/apps/default/topics", json!({ "name": name })).await;
    register("last").await.is(201);
    is_refused(&register("one-more").await, "invalid_input", TOPICS_MAX);

    let manifest = |count: usize| {
        let topics: Vec<_> = (0..count).map(|number| json!({ "name": format!("topic-{number}") })).collect();
        json!({ "topics": topics })
    };
    plan(&api, manifest(TOPICS_MAX)).await.is(200);
    is_refused(&plan(&api, manifest(TOPICS_MAX + 1)).await, "invalid_input", TOPICS_MAX);
}

#[tokio::test]
async fn settings_of_triggers_at_and_over_their_limits() {
    let api = TestApi::start().await;
    let create = async |kind: &str, config: &Value| {
        let body = json!({ "kind": kind, "script": "hello", "config": config });
        api.post("/apps/default/triggers", body).await
    };
    let consumer = |concurrency: u16| json!({ "queue": "work", "concurrency": concurrency });
    let webhook = |per_minute: u32, secrets: usize| {
        let secrets: Vec<_> = (0..secrets).map(|number| format!("SECRET_{number}")).collect();
        json!({ "provider": "github", "secrets": secrets, "per_minute": per_minute })
    };
    let cases = [
        (
            ("queue", "config.concurrency", QUEUE_CONCURRENCY_MAX.to_string()),
            consumer(QUEUE_CONCURRENCY_MAX),
            [consumer(QUEUE_CONCURRENCY_MAX + 1), consumer(0)],
        ),
        (
            ("webhook", "config.per_minute", WEBHOOK_PER_MINUTE_MAX.to_string()),
            webhook(WEBHOOK_PER_MINUTE_MAX, 1),
            [webhook(WEBHOOK_PER_MINUTE_MAX + 1, 1), webhook(0, 1)],
        ),
        (
            ("webhook", "config.secrets", WEBHOOK_SECRETS_MAX.to_string()),
            webhook(1, WEBHOOK_SECRETS_MAX),
            [webhook(1, WEBHOOK_SECRETS_MAX + 1), webhook(1, 0)],
        ),
    ];
    for ((kind, field, limit), at, outside) in cases {
        create(kind, &at).await.is(201);
        for config in outside {
            let refused = create(kind, &config).await;
            is_refused(&refused, "invalid_input", &limit);
            assert_eq!(refused.json["field"], field);
        }
    }
}

#[tokio::test]
async fn lists_of_hosts_and_ports_that_scripts_may_reach_at_and_over_their_limits() {
    const HOSTS_MAX: u16 = 1_000;
    const PORTS_MAX: u16 = 100;
    let api = TestApi::start().await;
    let set = async |rules: Value| api.call("PUT", "/apps/default/egress", Some(rules)).await;
    let hosts =
        |count: u16| -> Value { (0..count).map(|number| format!("host{number}.example.com")).collect() };
    let ports = |count: u16| -> Value { (9_000..9_000 + count).collect() };
    let full = json!({ "allow": hosts(HOSTS_MAX), "deny": hosts(HOSTS_MAX), "ports": ports(PORTS_MAX) });
    assert_eq!(set(full.clone()).await.is(200), &full);
    for (field, list, limit) in [
        ("allow", hosts(HOSTS_MAX + 1), HOSTS_MAX),
        ("deny", hosts(HOSTS_MAX + 1), HOSTS_MAX),
        ("ports", ports(PORTS_MAX + 1), PORTS_MAX),
    ] {
        let mut rules = full.clone();
        rules[field] = list;
        let refused = set(rules).await;
        is_refused(&refused, "invalid_input", limit);
        assert_eq!(refused.json["field"], field);
    }
    assert_eq!(api.get("/apps/default/egress").await.is(200), &full, "what was refused changes nothing");
}

#[tokio::test]
async fn dead_letters_of_a_list_and_the_reason_to_resolve_one_at_and_over_their_limits() {
    const LIST_MAX: u32 = 200;
    const REASON_CHARS_MAX: usize = 2_000;
    let api = TestApi::start().await;
    let owner = api.get("/auth/me").await.is(200)["id"].as_str().unwrap().parse().unwrap();
    let script = Script::of(&api, "default").await.on_behalf_of(owner);
    let (app, id) = (api.app_id("default").await, DeadLetterId::new().to_string());
    api.database
        .execute(&format!(
            "insert into dead_letters (app_id, id, delivery_id, kind, script_id, reason, attempts, errors, root_id,
                depth, max_attempts, base_ms, cap_ms, payload, enqueued_at)
             values ('{app}', '{id}', '{id}', 'function', '{id}', 'exhausted', 1, '[]', '{id}', 0, 1, 0, 0, '1', now())"
        ))
        .await;
    let list = |limit| dead_letters::List { unresolved: true, limit };
    for limit in [1, LIST_MAX] {
        script.call(HostOp::DeadLettersList, &list(limit)).await.unwrap();
    }
    for limit in [0, LIST_MAX + 1] {
        refuses(&script, HostOp::DeadLettersList, &list(limit), "invalid_argument", LIST_MAX).await;
    }
    // Each character is two bytes.
    let [longest, too_long] = [REASON_CHARS_MAX, REASON_CHARS_MAX + 1].map(|chars| "ü".repeat(chars));
    let resolve = |reason| dead_letters::One { id: &id, reason };
    let over = resolve(too_long.as_str());
    refuses(&script, HostOp::DeadLettersResolve, &over, "invalid_argument", REASON_CHARS_MAX).await;
    script.call(HostOp::DeadLettersResolve, &resolve(longest.as_str())).await.unwrap();
    let kept: String = api.database.scalar("select note from dead_letters").await;
    assert_eq!(kept, longest);
}
