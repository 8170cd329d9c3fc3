//! Limits of what scripts and people keep: what is at its limit is taken, what is one over is refused, and
//! says why. Those of an execution's calls are in `allowances`; those of `kv` and `docs` values beside them.

use serde_json::{Value, json};
use shared::host_call::HostOp;
use shared::host_call::atomic::{Commit, Op};
use shared::host_call::{docs, files, invoke, kv, pubsub, queue, secrets, users};
use shared::limits::{
    APP_UPLOADS_MAX, APP_USER_LOGIN_BYTES_MAX, APP_USER_PROFILE_BYTES_MAX, APP_USER_ROLES_MAX,
    APP_USERS_LIST_MAX, ATOMIC_OPS_MAX, ATTEMPTS_MAX, COLLECTION_BYTES_MAX, CONFIDENTIAL_BYTES_MAX,
    DOC_BYTES_MAX, DOC_INDEXES_ALL_MAX, DOC_INDEXES_MAX, DOC_SCHEMA_BYTES_MAX, DOC_SCHEMAS_MAX,
    DOCS_LIST_MAX, FILE_LINK_S_MAX, FILE_NAME_BYTES_MAX, FILE_UPLOADS_MAX, FILES_BYTES_MAX, FILES_LIST_MAX,
    FILES_UPLOADS_MAX, JSON_DEPTH_MAX, KV_LIST_MAX, KV_TTL_MS_MAX, MESSAGE_BYTES_MAX, QUEUE_DELAY_MS_MAX,
    SECRET_BYTES_MAX, SECRETS_MAX, SUBSCRIBER_TOKEN_S_MAX, SUBSCRIBER_TOKEN_TOPICS_MAX,
};
use shared::wire::codec;

use crate::app_users::{Account, PASSWORD};
use crate::calls::Script;
use crate::catalogue::print_row;
use crate::harness::TestApi;
use crate::neighbour::Neighbour;

/// A call, and the code by which it is refused; none for one that is carried out.
struct Case(HostOp, Vec<u8>, Option<&'static str>);

fn case<T: serde::Serialize>(op: HostOp, args: &T, refusal: Option<&'static str>) -> Case {
    let mut bytes = Vec::new();
    codec::encode_body(&mut bytes, args);
    Case(op, bytes, refusal)
}

/// At its limit, and one over.
fn pair<N, T: serde::Serialize>(op: HostOp, sizes: [N; 2], args: impl Fn(N) -> T) -> [Case; 2] {
    over(op, sizes, "invalid_argument", args)
}

fn over<N, T: serde::Serialize>(
    op: HostOp,
    [at, over]: [N; 2],
    code: &'static str,
    args: impl Fn(N) -> T,
) -> [Case; 2] {
    [case(op, &args(at), None), case(op, &args(over), Some(code))]
}

async fn hold(script: &Script, cases: impl IntoIterator<Item = Case>) {
    for (number, Case(op, args, refusal)) in cases.into_iter().enumerate() {
        let answer = script.call_bytes(op, args).await;
        let code = answer.as_ref().err().map(String::as_str);
        assert_eq!(code, refusal, "{op:?}, case {number}");
    }
}

/// JSON of so many bytes.
fn text(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

/// An object of so many bytes.
fn object(bytes: usize) -> String {
    format!("{{\"a\":{}}}", text(bytes - 6))
}

fn nested(levels: usize) -> String {
    format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
}

#[tokio::test]
async fn values_and_lists_of_kv_at_and_over_their_limits() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let condition = kv::Condition::None;
    let names = [COLLECTION_BYTES_MAX, COLLECTION_BYTES_MAX + 1].map(|bytes| "c".repeat(bytes));
    let [longest, too_long] = names.each_ref().map(String::as_str);
    let deep = [JSON_DEPTH_MAX, JSON_DEPTH_MAX + 1].map(nested);
    let [deepest, too_deep] = deep.each_ref().map(String::as_str);
    let set = kv::Set { collection: "c", key: "k", value: "1", ttl_ms: 0, condition };
    hold(&script, pair(HostOp::KvSet, [longest, too_long], |collection| kv::Set { collection, ..set })).await;
    hold(&script, pair(HostOp::KvSet, [deepest, too_deep], |value| kv::Set { value, ..set })).await;
    let times = [KV_TTL_MS_MAX, KV_TTL_MS_MAX + 1];
    hold(&script, pair(HostOp::KvSet, times, |ttl_ms| kv::Set { ttl_ms, ..set })).await;
    let list = |limit| kv::List { collection: "c", prefix: "", limit, after: "" };
    hold(&script, pair(HostOp::KvList, [1, 0], list)).await;
    hold(&script, pair(HostOp::KvList, [KV_LIST_MAX, KV_LIST_MAX + 1], list)).await;
    let keys = |count: usize| kv::Keys { collection: "c", keys: vec!["k"; count] };
    hold(&script, pair(HostOp::KvGetMany, [KV_LIST_MAX as usize, KV_LIST_MAX as usize + 1], keys)).await;
    let numbers = kv::Set { key: "n", value: "9223372036854775806", ..set };
    script.call(HostOp::KvSet, &numbers).await.unwrap();
    let incr = |by| kv::Incr { collection: "c", key: "n", by };
    hold(&script, over(HostOp::KvIncr, [1, 1], "conflict", incr)).await;
    hold(
        &script,
        pair(HostOp::AtomicCommit, [ATOMIC_OPS_MAX, ATOMIC_OPS_MAX + 1], |count| Commit {
            ops: vec![Op::KvSet(set); count],
        }),
    )
    .await;
}

#[tokio::test]
async fn documents_and_queries_at_and_over_their_limits() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let sizes = [DOC_BYTES_MAX, DOC_BYTES_MAX + 1].map(object);
    let create = |data| docs::Create { collection: "d", data };
    hold(&script, over(HostOp::DocsCreate, sizes.each_ref().map(String::as_str), "too_large", create)).await;
    let deep = [JSON_DEPTH_MAX - 1, JSON_DEPTH_MAX].map(|levels| format!("{{\"a\":{}}}", nested(levels)));
    hold(&script, pair(HostOp::DocsCreate, deep.each_ref().map(String::as_str), create)).await;
    let names = |count: usize| vec!["a"; count].join(".");
    let conditions = |count: usize| json!({ "$or": vec![json!({ "a": 1 }); count] });
    let negations = |count: usize| (0..count).fold(json!({ "a": 1 }), |filter, _| json!({ "$not": filter }));
    for queries in [
        [DOCS_LIST_MAX, DOCS_LIST_MAX + 1].map(|limit| json!({ "$limit": limit })),
        [1, 0].map(|limit| json!({ "$limit": limit })),
        [10_000, 10_001].map(|skip| json!({ "$skip": skip })),
        [64, 65].map(conditions),
        [8, 9].map(negations),
        [8, 9].map(|count| json!({ names(count): 1 })),
        [4, 5].map(|count| json!({ "$sort": vec!["a"; count] })),
        [100, 101].map(|count| json!({ "a": { "$in": vec![1; count] } })),
        [256, 257].map(|bytes| json!({ "a".repeat(bytes): 1 })),
    ] {
        let queries = queries.map(|query| query.to_string());
        let find = |query| docs::Find { collection: "d", query, cursor: "" };
        hold(&script, pair(HostOp::DocsFind, queries.each_ref().map(String::as_str), find)).await;
    }
}

#[tokio::test]
async fn indexes_and_schemas_at_and_over_their_limits() {
    let api = TestApi::start().await;
    let index = async |members: &[String]| {
        let body = json!({ "collection": "d", "members": members });
        api.post("/apps/default/doc-indexes", body).await
    };
    let members = |count: usize| (0..count).map(|number| format!("m{number}")).collect::<Vec<_>>();
    index(&members(5)).await.is_problem("invalid_input");
    for number in 1..=DOC_INDEXES_MAX {
        index(&[format!("n{number}")]).await.is(201);
    }
    let refused = index(&members(4)).await;
    assert!(refused.is_problem("conflict")["detail"].as_str().unwrap().contains("at most"), "{refused:?}");

    let put = async |collection: &str, schema: Value| {
        let path = format!("/apps/default/doc-schemas/{collection}");
        api.call("PUT", &path, Some(json!({ "schema": schema }))).await
    };
    let empty = json!({ "description": "" }).to_string().len();
    let described = |bytes: usize| json!({ "description": "x".repeat(bytes - empty) });
    put("c0", described(DOC_SCHEMA_BYTES_MAX)).await.is(200);
    put("c0", described(DOC_SCHEMA_BYTES_MAX + 1)).await.is_problem("invalid_input");
    // The schema, the list, and its items.
    put("c0", json!({ "enum": Vec::from_iter(0..498) })).await.is(200);
    put("c0", json!({ "enum": Vec::from_iter(0..499) })).await.is_problem("invalid_input");
    for number in 1..DOC_SCHEMAS_MAX {
        put(&format!("c{number}"), json!({})).await.is(200);
    }
    put("c0", json!({})).await.is(200);
    put("one-more", json!({})).await.is_problem("conflict");
}

#[tokio::test]
async fn indexes_of_all_apps_together_at_and_over_their_limit() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    // All but one are another app's, and nobody needs to build them here.
    api.database
        .execute(&format!(
            "insert into doc_indexes (id, app_id, collection, members, state)
             select gen_random_uuid(), id, 'c' || number, '{{m}}', 'ready'
             from apps, generate_series(1, {}) number
             where slug = 'other'",
            DOC_INDEXES_ALL_MAX - 1
        ))
        .await;
    let index = async |member: &str| {
        let body = json!({ "collection": "d", "members": [member] });
        api.post("/apps/default/doc-indexes", body).await
    };
    let last = index("last").await.is(201)["id"].as_str().unwrap().to_owned();
    index("more").await.is_problem("conflict");
    assert_eq!(api.call("DELETE", &format!("/apps/default/doc-indexes/{last}"), None).await.status, 204);
    index("more").await.is(201);
}

#[tokio::test]
async fn files_and_links_at_and_over_their_limits() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let content = files::Content { upload: 0, data: b"x" };
    let create = |name| files::Create { collection: "f", name, content_type: "text/plain", content };
    let names = [FILE_NAME_BYTES_MAX, FILE_NAME_BYTES_MAX + 1].map(|bytes| "n".repeat(bytes));
    hold(&script, pair(HostOp::FilesCreate, names.each_ref().map(String::as_str), create)).await;
    let types = [127, 128].map(|bytes| format!("a/{}", "b".repeat(bytes - 2)));
    let typed = |content_type| files::Create { content_type, ..create("a") };
    hold(&script, pair(HostOp::FilesCreate, types.each_ref().map(String::as_str), typed)).await;
    let list = |limit| files::List { collection: "f", limit, after: "" };
    hold(&script, pair(HostOp::FilesList, [FILES_LIST_MAX, FILES_LIST_MAX + 1], list)).await;
    let made = script.call(HostOp::FilesCreate, &create("a")).await.unwrap();
    let id = made.read::<files::Found<'_>>().file.unwrap().id.to_owned();
    let link = |expires_s| files::Link { collection: "f", id: &id, expires_s };
    hold(&script, pair(HostOp::FilesUrl, [FILE_LINK_S_MAX, FILE_LINK_S_MAX + 1], link)).await;
    hold(&script, pair(HostOp::FilesUrl, [1, 0], link)).await;

    // As much as the app may keep, but for three bytes: what has none fits, and what is shorter than before.
    let used: i64 = api.database.scalar("select size from files_usage").await;
    api.database.execute(&format!("update files_usage set size = {}", FILES_BYTES_MAX - 3)).await;
    let data = |data| files::Content { upload: 0, data };
    let sized = |bytes: &'static [u8]| files::Create { content: data(bytes), ..create("b") };
    hold(&script, over(HostOp::FilesCreate, [&b"xyz"[..], b"x"], "budget_exhausted", sized)).await;
    hold(&script, [case(HostOp::FilesCreate, &sized(b""), None)]).await;
    let replaced =
        files::Update { collection: "f", id: &id, name: None, content_type: None, content: Some(data(b"")) };
    hold(&script, [case(HostOp::FilesUpdate, &replaced, None)]).await;
    let now: i64 = api.database.scalar("select size from files_usage").await;
    assert_eq!((used, now), (3, FILES_BYTES_MAX - 1), "what was refused is not counted");
}

#[tokio::test]
async fn subscriber_tokens_at_and_over_their_limits() {
    let api = TestApi::start().await;
    api.post("/apps/default/topics", json!({ "name": "news", "external": true })).await.is(201);
    let script = Script::of(&api, "default").await;
    let lasting = |ttl_s| pubsub::SubscriberToken { topics: vec!["news"], ttl_s };
    let times = [SUBSCRIBER_TOKEN_S_MAX, SUBSCRIBER_TOKEN_S_MAX + 1];
    hold(&script, pair(HostOp::PubsubSubscriberToken, times, lasting)).await;
    hold(&script, pair(HostOp::PubsubSubscriberToken, [1, 0], lasting)).await;
    let of_many = |count| pubsub::SubscriberToken { topics: vec!["news"; count], ttl_s: 60 };
    let counts = [SUBSCRIBER_TOKEN_TOPICS_MAX, SUBSCRIBER_TOKEN_TOPICS_MAX + 1];
    hold(&script, pair(HostOp::PubsubSubscriberToken, counts, of_many)).await;
    hold(&script, pair(HostOp::PubsubSubscriberToken, [1, 0], of_many)).await;
}

/// Only a worker that was taken over begins contents and never ends them.
#[tokio::test]
async fn attack_22_contents_that_are_begun_and_never_ended() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let mut neighbour = Neighbour::beside(&api).await;
    let begin = files::Append { upload: 0, data: b"begun" };
    let mut begun = Vec::new();
    for number in 0..40 {
        match script.call_as(number + 1, HostOp::FilesAppend, &begin).await {
            Ok(answer) => begun.push(answer.read::<files::Appended>().upload),
            Err(code) => assert_eq!(code, "budget_exhausted"),
        }
        neighbour.is_well().await;
    }
    let well = neighbour.leave().await;
    let expected = format!("{FILE_UPLOADS_MAX} at a time, then an error");
    eprintln!("| 22 {:<22} | {expected:<48} | {} of 40 |", "contents never ended", begun.len());
    eprintln!("| 22 {:<22} | {:<48} | {well} |", "another app", "finds what it keeps");
    assert_eq!(begun.len(), FILE_UPLOADS_MAX);
    // Each of those goes on, and makes room when it is ended; another execution has room of its own.
    let content = files::Content { upload: begun[0], data: b"" };
    let create = files::Create { collection: "f", name: "a", content_type: "text/plain", content };
    script.call(HostOp::FilesCreate, &create).await.unwrap();
    script.call_as(99, HostOp::FilesAppend, &begin).await.unwrap();
    Script::of(&api, "default").await.call(HostOp::FilesAppend, &begin).await.unwrap();
}

#[tokio::test]
async fn attack_22_executions_that_each_leave_a_content_begun() {
    let api = TestApi::start().await;
    let app = api.app_id("default").await;
    let begin = files::Append { upload: 0, data: b"begun" };
    for number in 0..=FILES_UPLOADS_MAX {
        let ended = Script::of_app(&api, app, "default").call(HostOp::FilesAppend, &begin).await;
        assert!(ended.is_ok(), "execution {number}: {ended:?}");
    }
    let seen = format!("{} after each other", FILES_UPLOADS_MAX + 1);
    print_row("22", "left begun, one each", "gone with their execution", &seen);
}

#[tokio::test]
async fn attack_22_one_app_begins_contents_in_every_place_there_is() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    let (app, other) = (api.app_id("default").await, Script::of(&api, "other").await);
    let script = || Script::of_app(&api, app, "default");
    let begin = files::Append { upload: 0, data: b"begun" };
    let mut running = Vec::new();
    for _ in 0..APP_UPLOADS_MAX / FILE_UPLOADS_MAX {
        let script = script();
        for number in 1..=FILE_UPLOADS_MAX {
            let number = u32::try_from(number).unwrap();
            script.call_as(number, HostOp::FilesAppend, &begin).await.unwrap();
        }
        running.push(script);
    }
    let refused = script().call(HostOp::FilesAppend, &begin).await;
    let code = refused.unwrap_err();
    let expected = format!("{APP_UPLOADS_MAX} of {FILES_UPLOADS_MAX}, then an error");
    print_row("22", "contents of one app", &expected, &code);
    assert_eq!(code, "budget_exhausted");
    other.call(HostOp::FilesAppend, &begin).await.unwrap();
    // One that ends leaves its places to others.
    running.pop();
    script().call(HostOp::FilesAppend, &begin).await.unwrap();
}

/// Sixty-four of them would be 450 MiB in the parent, with what JSON makes of them.
#[tokio::test]
async fn attack_a_megabyte_of_password_another_one_each_time_is_not_kept() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let eve = Account::of(&script, "eve").await;
    for number in 0..64 {
        let password = format!("{number:04}{}", "\u{1}".repeat(1 << 20));
        let (password, login) = (password.as_str(), format!("user{number}"));
        let login = users::Login { login: &login, password };
        let answer = script.call(HostOp::UsersLogin, &login).await.unwrap();
        assert_eq!(answer.read::<users::Found<'_>>().json, None, "it is nobody's");
        let register = users::Register { login: login.login, password, profile: "{}" };
        let update = users::Update { id: &eve.id, password: Some(password), ..users::Update::default() };
        let refusal = Some("invalid_argument");
        let register = case(HostOp::UsersRegister, &register, refusal);
        hold(&script, [register, case(HostOp::UsersUpdate, &update, refusal)]).await;
        assert!(script.redacted(password) == password, "it is kept, to be looked for");
    }
}

/// What fitted is not said, and what does not fit is not told.
#[tokio::test]
async fn attack_one_execution_uses_secrets_without_end() {
    let api = TestApi::start().await;
    let owner = api.get("/auth/me").await.is(200)["id"].as_str().unwrap().parse().unwrap();
    let (script, other) = (
        Script::of(&api, "default").await.on_behalf_of(owner),
        Script::of(&api, "default").await.on_behalf_of(owner),
    );
    let long = "y".repeat(SECRET_BYTES_MAX);
    let set = secrets::SetSecret { name: "long", value: &long };
    other.call(HostOp::SecretsSet, &set).await.unwrap();
    // Of each size as many as there is room for, and in the end there is none for the other one.
    let mut fitted = Vec::new();
    for filler in ["\u{1}".repeat(SECRET_BYTES_MAX - 4), "x".repeat(4_000)] {
        let code = loop {
            let value = format!("{:04}{filler}", fitted.len());
            let set = secrets::SetSecret { name: "key", value: &value };
            if let Err(code) = script.call(HostOp::SecretsSet, &set).await {
                break code;
            }
            fitted.push(value);
        };
        assert_eq!(code, "budget_exhausted");
    }
    let bytes: usize = fitted.iter().map(String::len).sum();
    assert!((SECRET_BYTES_MAX..CONFIDENTIAL_BYTES_MAX).contains(&bytes), "{bytes}");
    assert!(fitted.iter().all(|value| script.redacted(value) == "[secret]"));
    let get = secrets::SecretName { name: "long" };
    assert_eq!(script.call(HostOp::SecretsGet, &get).await, Err("budget_exhausted".into()));
    other.call(HostOp::SecretsGet, &get).await.unwrap();
}

#[tokio::test]
async fn messages_and_secrets_at_and_over_their_limits() {
    let api = TestApi::start().await;
    api.deploy("default", "called", "1").await.is(201);
    let owner = api.get("/auth/me").await.is(200)["id"].as_str().unwrap().parse().unwrap();
    let script = Script::of(&api, "default").await.on_behalf_of(owner);
    let sizes = [MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX + 1].map(text);
    let messages = sizes.each_ref().map(String::as_str);
    let send = queue::Send { queue: "q", message: "1", delay_ms: 0, key: None, dedup: None };
    let publish = |message| pubsub::Publish { topic: "t", message };
    let later = invoke::InvokeAsync { script: "called", args: "1", delay_ms: 60_000, attempts: 1 };
    hold(&script, over(HostOp::QueueSend, messages, "too_large", |message| queue::Send { message, ..send }))
        .await;
    hold(&script, over(HostOp::PubsubPublish, messages, "too_large", publish)).await;
    let with = |args| invoke::InvokeAsync { args, ..later };
    hold(&script, over(HostOp::InvokeAsync, messages, "too_large", with)).await;
    let delays = [QUEUE_DELAY_MS_MAX, QUEUE_DELAY_MS_MAX + 1];
    hold(&script, pair(HostOp::QueueSend, delays, |delay_ms| queue::Send { delay_ms, ..send })).await;
    hold(&script, pair(HostOp::InvokeAsync, delays, |delay_ms| invoke::InvokeAsync { delay_ms, ..later }))
        .await;
    let attempts = [ATTEMPTS_MAX, ATTEMPTS_MAX + 1];
    hold(&script, pair(HostOp::InvokeAsync, attempts, |attempts| invoke::InvokeAsync { attempts, ..later }))
        .await;
    let words = [512, 513].map(|bytes| "w".repeat(bytes));
    let words = words.each_ref().map(|word| Some(word.as_str()));
    hold(&script, pair(HostOp::QueueSend, words, |key| queue::Send { key, ..send })).await;
    hold(&script, pair(HostOp::QueueSend, words, |dedup| queue::Send { dedup, ..send })).await;

    let values = [SECRET_BYTES_MAX, SECRET_BYTES_MAX + 1].map(|bytes| "v".repeat(bytes));
    let set = |value| secrets::SetSecret { name: "key", value };
    hold(&script, pair(HostOp::SecretsSet, values.each_ref().map(String::as_str), set)).await;
    hold(&script, [case(HostOp::SecretsSet, &set(""), Some("invalid_argument"))]).await;
    // All but one are there already; what they hold is nobody's business here.
    api.database
        .execute(&format!(
            "insert into secrets (app_id, name, sealed)
             select s.app_id, 'n' || number, s.sealed
             from secrets s, generate_series(1, {}) number",
            SECRETS_MAX - 2
        ))
        .await;
    let named = |name| secrets::SetSecret { name, value: "v" };
    hold(&script, over(HostOp::SecretsSet, ["last", "one-more"], "budget_exhausted", named)).await;
    hold(&script, [case(HostOp::SecretsSet, &named("last"), None)]).await;
}

#[tokio::test]
async fn users_of_an_app_at_and_over_their_limits() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let logins = [APP_USER_LOGIN_BYTES_MAX, APP_USER_LOGIN_BYTES_MAX + 1].map(|bytes| "l".repeat(bytes));
    let register = users::Register { login: "adam", password: PASSWORD, profile: "{}" };
    hold(
        &script,
        pair(HostOp::UsersRegister, logins.each_ref().map(String::as_str), |login| users::Register {
            login,
            ..register
        }),
    )
    .await;
    let profiles = [APP_USER_PROFILE_BYTES_MAX, APP_USER_PROFILE_BYTES_MAX + 1].map(object);
    hold(
        &script,
        over(HostOp::UsersRegister, profiles.each_ref().map(String::as_str), "too_large", |profile| {
            users::Register { profile, ..register }
        }),
    )
    .await;
    let eve = Account::of(&script, "eve").await;
    let roles: Vec<String> = (0..=APP_USER_ROLES_MAX).map(|number| format!("role-{number}")).collect();
    let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
    hold(
        &script,
        pair(HostOp::UsersUpdate, [APP_USER_ROLES_MAX, APP_USER_ROLES_MAX + 1], |count| users::Update {
            id: &eve.id,
            roles: Some(roles[..count].to_vec()),
            ..users::Update::default()
        }),
    )
    .await;
    let list = |limit| users::List { limit, after: "" };
    hold(&script, pair(HostOp::UsersList, [APP_USERS_LIST_MAX, APP_USERS_LIST_MAX + 1], list)).await;
    hold(&script, pair(HostOp::UsersList, [1, 0], list)).await;
}
