//! The wall between apps: every call that scripts can make, with everything that another app has.
//!
//! A call that is added without saying here what it is to be tried with does not compile.

use serde::Serialize;
use shared::host_call::HostOp;
use shared::host_call::atomic::{Commit, Op};
use shared::host_call::{dead_letters, docs, email, files, http, invoke, kv, pubsub, queue, secrets, users};
use shared::http::PairBlock;
use shared::wire::codec;

use crate::app_users;
use crate::calls::Script;
use crate::catalogue::print_row;
use crate::harness::TestApi;

/// What an app has, by the names under which it finds it.
struct Belongings {
    document: String,
    file: String,
    /// Of a content that is still being sent.
    upload: u32,
    dead_letter: uuid::Uuid,
    user: app_users::Account,
}

/// The calls that give out what an app keeps.
const READS: [HostOp; 17] = [
    HostOp::KvGet,
    HostOp::KvEntry,
    HostOp::KvList,
    HostOp::KvGetMany,
    HostOp::DocsGet,
    HostOp::DocsFind,
    HostOp::FilesHead,
    HostOp::FilesRead,
    HostOp::FilesList,
    HostOp::SecretsGet,
    HostOp::SecretsList,
    HostOp::DeadLettersList,
    HostOp::DeadLettersGet,
    HostOp::UsersMe,
    HostOp::UsersGet,
    HostOp::UsersList,
    HostOp::UsersLogin,
];

/// The calls that fail unless the app has what they name.
const IMPOSSIBLE: [HostOp; 7] = [
    HostOp::PubsubSubscriberToken,
    HostOp::Invoke,
    HostOp::InvokeAsync,
    HostOp::DeadLettersReplay,
    HostOp::DeadLettersResolve,
    HostOp::UsersUpdate,
    HostOp::UsersVerification,
];

/// Name of a script that only one of the apps has.
const SCRIPT: &str = "only-here";

/// What appears in whatever an app keeps, and nowhere else.
const MARK: &str = "belongs-to-the-other-app";

impl Belongings {
    /// `app` is the script's, where the secret is set by a person: scripts on public routes may not.
    async fn of(api: &TestApi, app: &str, script: &Script) -> Self {
        let secret = format!("/apps/{app}/secrets/{MARK}");
        api.call("PUT", &secret, Some(serde_json::json!({ "value": MARK }))).await.is(201);
        let value = format!("\"{MARK}\"");
        let set =
            kv::Set { collection: "c", key: "k", value: &value, ttl_ms: 0, condition: kv::Condition::None };
        script.call(HostOp::KvSet, &set).await.unwrap();
        let data = format!("{{\"a\":\"{MARK}\"}}");
        let made =
            script.call(HostOp::DocsCreate, &docs::Create { collection: "c", data: &data }).await.unwrap();
        let document = made.read::<docs::Created<'_>>().id.to_owned();
        let content = files::Content { upload: 0, data: MARK.as_bytes() };
        let create = files::Create { collection: "c", name: MARK, content_type: "text/plain", content };
        let made = script.call(HostOp::FilesCreate, &create).await.unwrap();
        let file = made.read::<files::Found<'_>>().file.unwrap().id.to_owned();
        let begun =
            script.call(HostOp::FilesAppend, &files::Append { upload: 0, data: b"begun" }).await.unwrap();
        let upload = begun.read::<files::Appended>().upload;
        let send = queue::Send { queue: "q", message: &value, delay_ms: 0, key: None, dedup: Some("once") };
        script.call(HostOp::QueueSend, &send).await.unwrap();
        api.deploy(app, SCRIPT, "1").await.is(201);
        let trigger = serde_json::json!({ "kind": "pubsub", "script": SCRIPT, "config": { "topic": "t" } });
        api.post(&format!("/apps/{app}/triggers"), trigger).await.is(201);
        let topic = serde_json::json!({ "name": "t", "external": true, "auth_mode": "token" });
        api.post(&format!("/apps/{app}/topics"), topic).await.is(201);
        let dead_letter = Self::give_up(api, app).await;
        let user = app_users::Account::of(script, MARK).await;
        Self { document, file, upload, dead_letter, user }
    }

    /// An event that was given up.
    async fn give_up(api: &TestApi, app: &str) -> uuid::Uuid {
        let (app, id) = (api.app_id(app).await, uuid::Uuid::now_v7());
        api.database
            .execute(&format!(
                "insert into dead_letters (app_id, id, delivery_id, kind, script_id, reason, attempts, errors, root_id,
                    depth, max_attempts, base_ms, cap_ms, payload, enqueued_at)
                 select app_id, '{id}', '{id}', 'function', id, 'exhausted', 1,
                    '[{{\"attempt\": 1, \"message\": \"{MARK}\"}}]', '{id}', 0, 1, 0, 0, '1', now()
                 from scripts where app_id = '{app}' and name = '{SCRIPT}'"
            ))
            .await;
        id
    }

    /// The call, aimed at these belongings.
    #[expect(clippy::too_many_lines, reason = "a list of all calls, which ought to be seen together")]
    fn aim(&self, op: HostOp) -> Vec<u8> {
        let (collection, key, id) = ("c", "k", self.document.as_str());
        let file = self.file.as_str();
        let content = files::Content { upload: self.upload, data: b"theirs" };
        match op {
            HostOp::Log => Vec::new(),
            HostOp::KvGet | HostOp::KvHas | HostOp::KvDelete | HostOp::KvEntry => {
                bytes(&kv::Key { collection, key })
            }
            HostOp::KvSet => {
                let condition = kv::Condition::Absent;
                bytes(&kv::Set { collection, key, value: "\"theirs\"", ttl_ms: 0, condition })
            }
            HostOp::KvIncr => bytes(&kv::Incr { collection, key, by: 1 }),
            HostOp::KvList => bytes(&kv::List { collection, prefix: "", limit: 100, after: "" }),
            HostOp::KvGetMany => bytes(&kv::Keys { collection, keys: vec![key] }),
            HostOp::DocsCreate => bytes(&docs::Create { collection, data: "{}" }),
            HostOp::DocsGet | HostOp::DocsDelete => bytes(&docs::Id { collection, id }),
            HostOp::DocsFind | HostOp::DocsCount => {
                bytes(&docs::Find { collection, query: "{}", cursor: "" })
            }
            HostOp::DocsUpdate => {
                let mode = docs::Mode::Merge;
                bytes(&docs::Update { collection, id, data: "{}", mode, if_version: None })
            }
            HostOp::AtomicCommit => {
                let key = kv::Key { collection, key };
                let message = "\"theirs\"";
                let send = queue::Send { queue: "q", message, delay_ms: 0, key: None, dedup: Some("once") };
                let publish = pubsub::Publish { topic: "t", message };
                let document = docs::Id { collection, id };
                let ops = vec![
                    Op::KvDelete(key),
                    Op::DocsDelete(document),
                    Op::QueueSend(send),
                    Op::PubsubPublish(publish),
                ];
                bytes(&Commit { ops })
            }
            HostOp::FilesCreate => {
                bytes(&files::Create { collection, name: "theirs", content_type: "text/plain", content })
            }
            HostOp::FilesAppend => bytes(&files::Append { upload: self.upload, data: b"theirs" }),
            HostOp::FilesHead | HostOp::FilesDelete => bytes(&files::Id { collection, id: file }),
            HostOp::FilesRead => bytes(&files::Read { collection, id: file, offset: 0, version: 0 }),
            HostOp::FilesUpdate => {
                let content = Some(content);
                bytes(&files::Update {
                    collection,
                    id: file,
                    name: Some("theirs"),
                    content_type: None,
                    content,
                })
            }
            HostOp::FilesList => bytes(&files::List { collection, limit: 100, after: "" }),
            HostOp::FilesUrl => bytes(&files::Link { collection, id: file, expires_s: 60 }),
            HostOp::SecretsGet | HostOp::SecretsDelete => bytes(&secrets::SecretName { name: MARK }),
            HostOp::SecretsSet => bytes(&secrets::SetSecret { name: MARK, value: "theirs" }),
            HostOp::SecretsList => bytes(&()),
            HostOp::QueueSend => {
                let (message, dedup) = ("\"theirs\"", Some("once"));
                bytes(&queue::Send { queue: "q", message, delay_ms: 0, key: None, dedup })
            }
            HostOp::QueueStats => bytes(&queue::Named { queue: "q" }),
            HostOp::PubsubPublish | HostOp::PubsubPublishEphemeral => {
                bytes(&pubsub::Publish { topic: "t", message: "\"theirs\"" })
            }
            HostOp::PubsubSubscriberToken => bytes(&pubsub::SubscriberToken { topics: vec!["t"], ttl_s: 60 }),
            HostOp::Invoke => bytes(&invoke::Invoke { script: SCRIPT, args: "1" }),
            HostOp::InvokeAsync => {
                bytes(&invoke::InvokeAsync { script: SCRIPT, args: "1", delay_ms: 0, attempts: 0 })
            }
            HostOp::RetryWait => bytes(&invoke::Wait { ms: 0 }),
            HostOp::DeadLettersList => bytes(&dead_letters::List { unresolved: false, limit: 100 }),
            HostOp::DeadLettersGet | HostOp::DeadLettersReplay | HostOp::DeadLettersResolve => {
                bytes(&dead_letters::One { id: &self.dead_letter.to_string(), reason: "theirs" })
            }
            // A login of its own: that of the other app's user would be in the answer.
            HostOp::UsersRegister => {
                bytes(&users::Register { login: "theirs", password: app_users::PASSWORD, profile: "{}" })
            }
            HostOp::UsersLogin => bytes(&users::Login { login: MARK, password: app_users::PASSWORD }),
            HostOp::UsersLogout => bytes(&users::Logout { token: Some(&self.user.session) }),
            HostOp::UsersMe => bytes(&users::Token { token: &self.user.session }),
            HostOp::UsersGet | HostOp::UsersDelete | HostOp::UsersVerification => {
                bytes(&users::Id { id: &self.user.id })
            }
            HostOp::UsersList => bytes(&users::List { limit: 100, after: "" }),
            HostOp::UsersUpdate => {
                let (id, disabled) = (self.user.id.as_str(), Some(true));
                bytes(&users::Update { id, disabled, ..users::Update::default() })
            }
            HostOp::UsersVerify => bytes(&users::Token { token: &self.user.verification }),
            HostOp::UsersReset => bytes(&users::Named { login: MARK }),
            HostOp::UsersResetPassword => {
                let (token, password) = (self.user.reset.as_str(), "their own battery staple");
                bytes(&users::ResetPassword { token, password })
            }
            HostOp::EmailSend => {
                let (to, subject, text) = (vec!["ada@example.com"], "theirs", Some("theirs"));
                bytes(&email::Send { to, subject, text, ..email::Send::default() })
            }
            HostOp::HttpSend => {
                let mut with_secret = PairBlock::default();
                with_secret.push(b"authorization", format!("{MARK}\0{{}}").as_bytes());
                bytes(&http::Request {
                    method: "GET",
                    url: "http://127.0.0.1/",
                    headers: &[],
                    secret_headers: with_secret.as_bytes(),
                    body: &[],
                    timeout_ms: 0,
                    follows: false,
                })
            }
        }
    }

    /// Whether all of it is there, as it was.
    async fn are_untouched(&self, script: &Script) {
        let value = script.call(HostOp::KvGet, &kv::Key { collection: "c", key: "k" }).await.unwrap();
        assert_eq!(value.read::<kv::Found<'_>>().value, Some(format!("\"{MARK}\"").as_str()));
        let id = docs::Id { collection: "c", id: &self.document };
        let document = script.call(HostOp::DocsGet, &id).await.unwrap();
        assert!(document.read::<docs::Found<'_>>().document.unwrap().data.contains(MARK));
        let read = files::Read { collection: "c", id: &self.file, offset: 0, version: 0 };
        let part = script.call(HostOp::FilesRead, &read).await.unwrap();
        assert_eq!(part.read::<files::FoundPart<'_>>().part.unwrap().data, MARK.as_bytes());
        let secret = script.call(HostOp::SecretsGet, &secrets::SecretName { name: MARK }).await.unwrap();
        assert_eq!(secret.read::<secrets::SecretValue<'_>>().value, Some(MARK));
        let more = files::Append { upload: self.upload, data: b"more" };
        script.call(HostOp::FilesAppend, &more).await.unwrap();
        let stats = script.call(HostOp::QueueStats, &queue::Named { queue: "q" }).await.unwrap();
        assert_eq!(stats.read::<queue::Stats>().ready, 1);
        let letter =
            script.call_bytes(HostOp::DeadLettersGet, self.aim(HostOp::DeadLettersGet)).await.unwrap();
        let letter: serde_json::Value =
            serde_json::from_str(letter.read::<dead_letters::Shown<'_>>().json).unwrap();
        assert_eq!(letter["resolution"], serde_json::Value::Null, "{letter}");
        let user = app_users::me(script, &self.user.session).await;
        assert_eq!((&user["login"], &user["verified"]), (&MARK.into(), &false.into()), "{user}");
    }
}

fn bytes<T: Serialize>(args: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode_body(&mut bytes, args);
    bytes
}

/// A script of the app that runs for somebody who may do everything to that app, and to no other.
async fn of_administrator(api: &TestApi, app: &str, name: &str) -> (TestApi, Script) {
    let person = api.person(name, "member").await;
    api.post(&format!("/apps/{app}/members"), serde_json::json!({ "user": name, "role": "app_admin" }))
        .await
        .is(201);
    let user = person.get("/auth/me").await.is(200)["id"].as_str().unwrap().parse().unwrap();
    let script = Script::of(api, app).await.on_behalf_of(user);
    (person, script)
}

#[tokio::test]
async fn attack_24_no_call_reaches_what_another_app_keeps() {
    let api = TestApi::start().await;
    api.post("/apps", serde_json::json!({ "slug": "other" })).await.is(201);
    let (_, owner) = of_administrator(&api, "default", "alice").await;
    let (bob, thief) = of_administrator(&api, "other", "bob").await;
    let belongings = Belongings::of(&api, "default", &owner).await;
    for op in HostOp::ALL {
        let answer = thief.call_bytes(*op, belongings.aim(*op)).await;
        match &answer {
            Ok(answer) => {
                let text = String::from_utf8_lossy(answer.as_bytes());
                assert!(!text.contains(MARK), "{op:?} answers {text:?}");
                assert!(!IMPOSSIBLE.contains(op), "{op:?} answers {text:?}");
            }
            Err(code) => assert!(!IMPOSSIBLE.contains(op) || code == "not_found", "{op:?}: {code}"),
        }
        let seen = answer.as_ref().map_or_else(String::as_str, |_| "an answer without it");
        print_row("24", &format!("{op:?}"), "nothing of the other app", seen);
        if let (HostOp::PubsubPublish | HostOp::PubsubPublishEphemeral, Ok(answer)) = (op, &answer) {
            assert_eq!(answer.read::<pubsub::Published>().receivers, 0, "{op:?}");
        }
        belongings.are_untouched(&owner).await;
    }
    assert_eq!(api.database.scalar::<i64>("select count(*) from outbox").await, 0);
    // The aim was right: to the app itself, what only reads shows all of it, and what makes something
    // happen finds what it is to happen to.
    for op in READS {
        let answer = owner.call_bytes(op, belongings.aim(op)).await.unwrap();
        assert!(String::from_utf8_lossy(answer.as_bytes()).contains(MARK), "{op:?}");
    }
    let published = owner.call_bytes(HostOp::PubsubPublish, belongings.aim(HostOp::PubsubPublish)).await;
    assert_eq!(published.unwrap().read::<pubsub::Published>().receivers, 1);
    let token = belongings.aim(HostOp::PubsubSubscriberToken);
    owner.call_bytes(HostOp::PubsubSubscriberToken, token).await.unwrap();
    owner.call_bytes(HostOp::InvokeAsync, belongings.aim(HostOp::InvokeAsync)).await.unwrap();
    // No pool is there yet to run it in.
    let invoked = owner.call_bytes(HostOp::Invoke, belongings.aim(HostOp::Invoke)).await;
    assert_eq!(invoked.unwrap_err(), "unavailable");
    // The same by the admin API.
    for path in [
        "kv/c/k".to_owned(),
        format!("docs/c/{}", belongings.document),
        format!("files/c/{}", belongings.file),
        format!("files/c/{}/content", belongings.file),
        format!("dead-letters/{}", belongings.dead_letter),
        "queues/q/messages".to_owned(),
        "users".to_owned(),
        format!("users/{}", belongings.user.id),
    ] {
        bob.get(&format!("/apps/default/{path}")).await.is_problem("not_found");
    }
    let dead_letter = format!("/apps/other/dead-letters/{}", belongings.dead_letter);
    bob.get(&dead_letter).await.is_problem("not_found");
    bob.post(&format!("{dead_letter}:replay"), serde_json::json!({})).await.is_problem("not_found");
    for path in [
        format!("docs/c/{}", belongings.document),
        format!("files/c/{}", belongings.file),
        format!("users/{}", belongings.user.id),
    ] {
        bob.get(&format!("/apps/other/{path}")).await.is_problem("not_found");
        bob.call("DELETE", &format!("/apps/other/{path}"), None).await.is_problem("not_found");
    }
    belongings.are_untouched(&owner).await;
}

#[tokio::test]
async fn what_an_app_kept_goes_with_it() {
    let api = TestApi::start().await;
    api.post("/apps", serde_json::json!({ "slug": "other" })).await.is(201);
    let (_, script) = of_administrator(&api, "other", "bob").await;
    Belongings::of(&api, "other", &script).await;
    assert_eq!(api.call("DELETE", "/apps/other?force=true", None).await.status, 204);
    for table in [
        "kv",
        "docs",
        "files",
        "files_usage",
        "secrets",
        "queue_messages",
        "dead_letters",
        "app_users",
        "app_user_sessions",
        "app_user_tokens",
    ] {
        let rows: i64 = api.database.scalar(&format!("select count(*) from {table}")).await;
        assert_eq!(rows, 0, "{table}");
    }
}
