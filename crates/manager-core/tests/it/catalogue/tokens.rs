//! What lets somebody in by being known: none of it can be guessed, read from the database, bent into another,
//! or used where or when it is not meant.

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use serde_json::{Value, json};
use shared::host_call::HostOp;
use shared::host_call::files::{Link, Linked};
use shared::host_call::pubsub::{self, SubscriberToken};
use shared::host_call::users::{Found, ResetPassword, Token};
use shared::ports::Shown;

use super::print_row;
use crate::app_users::Account;
use crate::calls::Script;
use crate::harness::{Reply, TestApi};
use crate::outbox::eventually;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Session,
    Key,
    Invitation,
    UserSession,
    Verification,
    Reset,
    FileLink,
    Subscriber,
}

const KINDS: [Kind; 8] = [
    Kind::Session,
    Kind::Key,
    Kind::Invitation,
    Kind::UserSession,
    Kind::Verification,
    Kind::Reset,
    Kind::FileLink,
    Kind::Subscriber,
];

/// What a subscriber's token is for.
const TOPIC: &str = "news";

impl Kind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Session => "pics_",
            Self::Key => "pic_",
            Self::Invitation => "pici_",
            Self::UserSession => "picu_",
            Self::Verification => "picv_",
            Self::Reset => "picr_",
            Self::FileLink => "",
            Self::Subscriber => "pict_",
        }
    }

    /// Whether the app's key seals all that there is to know of it, and the database has nothing of it.
    const fn is_sealed(self) -> bool {
        matches!(self, Self::FileLink | Self::Subscriber)
    }
}

/// What those of an app have in common: its id, the form of what is sealed, the number of the key.
const SEALED_HEAD_BYTES: usize = 16 + 1 + 4;

/// One of each for somebody, as they get it; users and files are the app's.
async fn issue(api: &TestApi, app: &str, name: &str) -> [(Kind, String); 8] {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let script = Script::of(api, app).await;
    let session = api.login("ada", crate::harness::PASSWORD, None).await;
    let key = api.post("/api-keys", json!({ "name": name, "scopes": ["app:read"] })).await;
    let invitation = api.post("/invitations", json!({})).await;
    let user = Account::of(&script, name).await;
    let file = api.post(&format!("/apps/{app}/files/c?name=f"), json!("content")).await;
    let link = link(&script, &text(&file.is(201)["id"]), 60).await;
    let subscriber = subscriber(api, app, 60).await;
    [
        (Kind::Session, text(&session.is(200)["token"])),
        (Kind::Key, text(&key.is(201)["key"])),
        (Kind::Invitation, text(&invitation.is(201)["token"])),
        (Kind::UserSession, user.session),
        (Kind::Verification, user.verification),
        (Kind::Reset, user.reset),
        (Kind::FileLink, link),
        (Kind::Subscriber, subscriber),
    ]
}

/// A token for a topic of the app.
async fn subscriber(api: &TestApi, app: &str, ttl_s: u32) -> String {
    let topic = json!({ "name": TOPIC, "external": true });
    let registered = api.post(&format!("/apps/{app}/topics"), topic).await;
    assert!([201, 409].contains(&registered.status.as_u16()), "{registered:?}");
    let args = SubscriberToken { topics: vec![TOPIC], ttl_s };
    let answer = Script::of(api, app).await.call(HostOp::PubsubSubscriberToken, &args).await.unwrap();
    answer.read::<pubsub::Token<'_>>().token.to_owned()
}

/// What a link to a file ends with, which is all that it is good by.
async fn link(script: &Script, id: &str, expires_s: u32) -> String {
    let link = Link { collection: "c", id, expires_s };
    let answer = script.call(HostOp::FilesUrl, &link).await.unwrap();
    let url = answer.read::<Linked<'_>>().url.unwrap();
    url.rsplit('/').next().unwrap().to_owned()
}

async fn follow(api: &TestApi, link: &str) -> Reply {
    let request = Request::get(format!("/api/v1/files/{link}")).body(Body::empty()).unwrap();
    api.send(request).await
}

/// Whether it lets its bearer do what one of its kind is for.
async fn opens(api: &TestApi, app: &str, kind: Kind, token: &str) -> bool {
    let script = Script::of(api, app).await;
    let found = async |op: HostOp, args: Vec<u8>| {
        let answer = script.call_bytes(op, args).await;
        answer.is_ok_and(|answer| answer.read::<Found<'_>>().json.is_some())
    };
    match kind {
        Kind::Session | Kind::Key => api.with_token(token.to_owned()).get("/auth/me").await.status == 200,
        Kind::Invitation => {
            let body = json!({ "token": token, "username": "newcomer", "password": "their own 4 words" });
            let stranger = api.with_token(String::new());
            stranger.post("/invitations:accept", body).await.status.is_success()
        }
        Kind::UserSession => {
            let app = api.app_id(app).await;
            api.manager.callers().authenticate(app, Shown::Session(token)).await.is_ok()
        }
        Kind::Verification => found(HostOp::UsersVerify, super::encoded(&Token { token })).await,
        Kind::Reset => {
            let password = "another horse battery staple";
            found(HostOp::UsersResetPassword, super::encoded(&ResetPassword { token, password })).await
        }
        Kind::FileLink => follow(api, token).await.status == 200,
        Kind::Subscriber => api.listen(api.app_id(app).await, TOPIC, token).await == 200,
    }
}

/// The token with something wrong with it.
fn forgeries(kind: Kind, token: &str) -> Vec<String> {
    let prefix = kind.prefix();
    let secret = token.strip_prefix(prefix).unwrap();
    let mut forged = vec![
        prefix.to_owned(),
        format!("{prefix}{}", &secret[1..]),
        token[..token.len() - 1].to_owned(),
        token[..token.len() / 2].to_owned(),
        format!("{token}A"),
        format!("{token}="),
        format!("{token}{token}"),
        format!("{prefix}{}", swapped_case(secret)),
        format!("{prefix}{}", secret.chars().rev().collect::<String>()),
        secret.to_owned() + prefix,
        "null".to_owned(),
        // A token of a kind that says itself how it is to be believed.
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.".to_owned(),
    ];
    let bytes = secret.as_bytes();
    for at in [0, 1, bytes.len() / 3, bytes.len() / 2, bytes.len() - 2, bytes.len() - 1] {
        let mut secret = secret.to_owned();
        // Both are digits of base 16 and of base 64.
        let other = if bytes[at] == b'0' { "1" } else { "0" };
        secret.replace_range(at..=at, other);
        forged.push(format!("{prefix}{secret}"));
    }
    let others = KINDS.into_iter().filter(|other| *other != kind && *other != Kind::FileLink);
    forged.extend(others.map(|other| format!("{}{secret}", other.prefix())));
    forged.retain(|forged| forged != token);
    forged
}

fn swapped_case(text: &str) -> String {
    let swap = |c: char| if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
    text.chars().map(swap).collect()
}

/// The random bytes of a token, or more.
fn secret_bytes(kind: Kind, token: &str) -> Vec<u8> {
    let secret = token.strip_prefix(kind.prefix()).unwrap();
    if kind != Kind::Key {
        return URL_SAFE_NO_PAD.decode(secret).unwrap();
    }
    let pairs = secret.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// Everything that is in the database, as text.
async fn dump(api: &TestApi) -> String {
    let tables = "select string_agg(table_name, ',') from information_schema.tables
                  where table_schema = 'public' and table_type = 'BASE TABLE'";
    let tables: String = api.database.scalar(tables).await;
    let mut dump = String::new();
    for table in tables.split(',') {
        let rows = format!("select coalesce(string_agg(t::text, ' '), '') from \"{table}\" t");
        dump += &api.database.scalar::<String>(&rows).await;
    }
    dump
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn attack_28_guessing_and_reading_what_lets_somebody_in() {
    let api = TestApi::start().await;
    let pair = [issue(&api, "default", "eve").await, issue(&api, "default", "adam").await];
    let dump = dump(&api).await;
    assert!(dump.contains("adam") && dump.len() > 5_000, "{} bytes", dump.len());
    let [first, second] = &pair;
    for ((kind, one), (_, other)) in first.iter().zip(second) {
        let [one_bytes, other_bytes] = [one, other].map(|token| secret_bytes(*kind, token));
        for (token, bytes) in [(one, &one_bytes), (other, &other_bytes)] {
            assert!(bytes.len() >= 16, "{kind:?} has {} bytes", bytes.len());
            let secret = token.strip_prefix(kind.prefix()).unwrap();
            assert!(!dump.contains(secret) && !dump.contains(&hex(bytes)), "{kind:?} is in the database");
        }
        // Nothing in it counts up or tells the time.
        let at = if kind.is_sealed() { SEALED_HEAD_BYTES } else { 0 };
        let pairs = one_bytes[at..].iter().zip(&other_bytes[at..]);
        let alike = pairs.filter(|(one, other)| one == other).count();
        let seen = format!("{alike} of {}", one_bytes.len());
        print_row("28", &format!("two of one kind: {kind:?}"), "6 bytes alike at most, no copy", &seen);
        assert!(alike <= 6, "{kind:?}: {alike} of {} bytes are alike", one_bytes.len());
    }
}

/// Ids are in addresses, logs and answers: whoever knows one knows nothing by it.
#[tokio::test]
async fn attack_28_ids_in_the_place_of_tokens() {
    let api = TestApi::start().await;
    issue(&api, "default", "eve").await;
    let id = |reply: Reply, path: &str| {
        let value = reply.json.pointer(path).unwrap_or_else(|| panic!("{path}: {reply:?}"));
        value.as_str().unwrap().to_owned()
    };
    let ids = [
        id(api.get("/auth/me").await, "/id"),
        id(api.get("/auth/sessions").await, "/items/0/id"),
        id(api.get("/api-keys").await, "/items/0/id"),
        id(api.get("/invitations").await, "/items/0/id"),
        id(api.get("/apps/default").await, "/id"),
        id(api.get("/apps/default/users").await, "/items/0/id"),
        id(api.get("/apps/default/files/c").await, "/items/0/id"),
    ];
    for id in ids {
        let packed = URL_SAFE_NO_PAD.encode(uuid::Uuid::parse_str(&id).unwrap().as_bytes());
        for kind in KINDS {
            for shown in [&id, &packed] {
                let token = format!("{}{shown}", kind.prefix());
                assert!(!opens(&api, "default", kind, &token).await, "{token} as {kind:?}");
            }
        }
        print_row("28", &id, "opens nothing", &format!("nothing, as {} kinds", KINDS.len()));
    }
}

#[tokio::test]
async fn attack_29_tokens_that_are_bent_foreign_or_of_another_kind() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    let mine = issue(&api, "default", "eve").await;
    let foreign = issue(&api, "other", "eve").await;
    let mut tried = 0;
    for (kind, token) in &mine {
        let others = mine.iter().filter(|(other, _)| other != kind).map(|(_, token)| token.clone());
        for forged in forgeries(*kind, token).into_iter().chain(others) {
            // A session and a key are two ways to be the same person.
            let is_person = |kind: &Kind| matches!(kind, Kind::Session | Kind::Key);
            let is_other_way = mine.iter().any(|(other, token)| is_person(other) && *token == forged);
            if is_person(kind) && is_other_way {
                continue;
            }
            assert!(!opens(&api, "default", *kind, &forged).await, "{kind:?}: {forged}");
            tried += 1;
        }
    }
    for (kind, token) in &foreign {
        if matches!(kind, Kind::UserSession | Kind::Verification | Kind::Reset | Kind::Subscriber) {
            assert!(!opens(&api, "default", *kind, token).await, "{kind:?} of another app");
        }
    }
    // What was bent is good as it is.
    for (kind, token) in &mine {
        assert!(opens(&api, "default", *kind, token).await, "{kind:?}");
    }
    print_row("29", "bent and exchanged tokens", "refused, more than 150", &format!("{tried} refused"));
    assert!(tried > 150, "{tried}");
}

#[tokio::test]
async fn attack_29_tokens_whose_time_is_over() {
    let api = TestApi::start().await;
    let tokens = issue(&api, "default", "eve").await;
    for table in ["sessions", "api_keys", "invitations", "app_user_sessions"] {
        api.database.execute(&format!("update {table} set created_at = now() - interval '60 days'")).await;
    }
    for table in ["sessions", "api_keys", "invitations", "app_user_sessions", "app_user_tokens"] {
        let expire = format!("update {table} set expires_at = now() - interval '1 second'");
        api.database.execute(&expire).await;
    }
    // The time of what is sealed is not in the database: the next tests are about it.
    for (kind, token) in tokens.iter().filter(|(kind, _)| !kind.is_sealed()) {
        // Asking for the app needs somebody who is logged in: the owner, again.
        let ada = api.login("ada", crate::harness::PASSWORD, None).await.is(200)["token"].clone();
        let api = api.with_token(ada.as_str().unwrap().to_owned());
        let is_open = opens(&api, "default", *kind, token).await;
        let seen = if is_open { "lets in" } else { "refused" };
        print_row("29", &format!("too old: {kind:?}"), "refused", seen);
        assert!(!is_open, "{kind:?}");
    }
}

/// What the database says cannot end a link, whose time is sealed into it. One that is good for longer, and differs
/// in nothing else, shows that it is the time.
#[tokio::test]
async fn attack_29_a_link_to_a_file_whose_time_is_over() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let file = api.post("/apps/default/files/c?name=f", json!("content")).await;
    let id = file.is(201)["id"].as_str().unwrap();
    let (short, long) = (link(&script, id, 1).await, link(&script, id, 3_600).await);
    eventually("the time of the link is over", async || {
        (follow(&api, &short).await.status == 404).then_some(())
    })
    .await;
    assert_eq!(follow(&api, &long).await.is(200), "content");
    let late = follow(&api, &short).await.status;
    print_row("29", "too old: a link", "404", late.as_str());
    assert_eq!(late, 404, "it does not come back");
}

/// The same of a token for topics.
#[tokio::test]
async fn attack_29_a_subscriber_token_whose_time_is_over() {
    let api = TestApi::start().await;
    let app = api.app_id("default").await;
    let (short, long) = (subscriber(&api, "default", 1).await, subscriber(&api, "default", 3_600).await);
    eventually("the time of the token is over", async || {
        (api.listen(app, TOPIC, &short).await == 401).then_some(())
    })
    .await;
    assert_eq!(api.listen(app, TOPIC, &long).await, 200);
    let late = api.listen(app, TOPIC, &short).await;
    print_row("29", "too old: a subscriber", "401", late.as_str());
    assert_eq!(late, 401, "it does not come back");
}

/// Both are sealed by one key, and say in their first bytes the same app.
#[tokio::test]
async fn attack_29_a_link_to_a_file_and_a_subscriber_token_in_each_others_place() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let file = api.post("/apps/default/files/c?name=f", json!("content")).await;
    let link = link(&script, file.is(201)["id"].as_str().unwrap(), 60).await;
    let subscriber = subscriber(&api, "default", 60).await;
    let prefix = Kind::Subscriber.prefix();
    let as_subscriber = format!("{prefix}{link}");
    assert!(!opens(&api, "default", Kind::Subscriber, &as_subscriber).await);
    let as_link = subscriber.strip_prefix(prefix).unwrap();
    assert!(!opens(&api, "default", Kind::FileLink, as_link).await);
    print_row("29", "a link for a token", "refused, and the other way around", "refused");
    assert!(opens(&api, "default", Kind::FileLink, &link).await);
    assert!(opens(&api, "default", Kind::Subscriber, &subscriber).await);
}
