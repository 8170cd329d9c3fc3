//! Apps' own users: what scripts do with their accounts, whom routes let in, and what the app's people see.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};
use shared::caller::{AppCaller, Caller};
use shared::host_call::HostOp;
use shared::host_call::users::{
    Existed, Found, Id, Issued, List, Login, Logout, Named, Register, ResetPassword, Token, Update,
};
use shared::ports::{CredentialRefused, Shown};

use crate::calls::Script;
use crate::harness::TestApi;

pub(crate) const PASSWORD: &str = "correct horse battery staple";
const OTHER_PASSWORD: &str = "another horse battery staple";

/// A user with everything that lets somebody in.
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) session: String,
    pub(crate) verification: String,
    pub(crate) reset: String,
}

impl Account {
    pub(crate) async fn of(script: &Script, login: &str) -> Self {
        let user = register(script, login).await.unwrap();
        let id = user["id"].as_str().unwrap().to_owned();
        let session = log_in(script, login, PASSWORD).await.unwrap()["token"].as_str().unwrap().to_owned();
        let verification = issued(script, HostOp::UsersVerification, &Id { id: &id }).await.unwrap();
        let reset = issued(script, HostOp::UsersReset, &Named { login }).await.unwrap();
        Self { id, session, verification, reset }
    }
}

async fn ask<T: serde::Serialize>(script: &Script, op: HostOp, args: &T) -> Result<Value, String> {
    let answer = script.call(op, args).await?;
    Ok(answer.read::<Found<'_>>().json.map_or(Value::Null, |json| serde_json::from_str(json).unwrap()))
}

async fn issued<T: serde::Serialize>(script: &Script, op: HostOp, args: &T) -> Option<String> {
    script.call(op, args).await.unwrap().read::<Issued<'_>>().token.map(str::to_owned)
}

async fn register(script: &Script, login: &str) -> Result<Value, String> {
    let register = Register { login, password: PASSWORD, profile: r#"{"name":"x"}"# };
    ask(script, HostOp::UsersRegister, &register).await
}

async fn log_in(script: &Script, login: &str, password: &str) -> Result<Value, String> {
    ask(script, HostOp::UsersLogin, &Login { login, password }).await
}

pub(crate) async fn me(script: &Script, token: &str) -> Value {
    ask(script, HostOp::UsersMe, &Token { token }).await.unwrap()
}

async fn log_out(script: &Script, token: Option<&str>) -> bool {
    script.call(HostOp::UsersLogout, &Logout { token }).await.unwrap().read::<Existed>().existed
}

async fn update(script: &Script, change: Update<'_>) -> Result<Value, String> {
    ask(script, HostOp::UsersUpdate, &change).await
}

async fn enter(api: &TestApi, app: &str, token: &str) -> Result<AppCaller, CredentialRefused> {
    let app = api.app_id(app).await;
    let caller = api.manager.callers().authenticate(app, Shown::Session(token)).await?;
    let Caller::AppUser(user) = caller else { panic!("{caller:?}") };
    Ok(user)
}

#[tokio::test]
async fn a_user_registers_logs_in_is_let_in_and_logs_out_at_once() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let made = register(&script, "Eve@example.org").await.unwrap();
    assert_eq!((&made["login"], &made["roles"]), (&json!("Eve@example.org"), &json!([])));
    assert_eq!((&made["verified"], &made["disabled"]), (&json!(false), &json!(false)));
    assert_eq!(register(&script, "eve@EXAMPLE.org").await, Err("conflict".into()));
    let session = log_in(&script, "eve@example.ORG", PASSWORD).await.unwrap();
    let token = session["token"].as_str().unwrap();
    assert_eq!(session["user"], made);
    assert_eq!(me(&script, token).await, made);
    let change =
        Update { id: made["id"].as_str().unwrap(), roles: Some(vec!["editor"]), ..Update::default() };
    update(&script, change).await.unwrap();
    let user = enter(&api, "default", token).await.unwrap();
    assert_eq!(user.id.to_string(), made["id"].as_str().unwrap());
    assert_eq!((user.login.as_str(), user.roles.as_str()), ("Eve@example.org", r#"["editor"]"#));
    assert_eq!(user.profile, r#"{"name":"x"}"#);
    assert!(log_out(&script, Some(token)).await && !log_out(&script, Some(token)).await);
    assert_eq!(enter(&api, "default", token).await, Err(CredentialRefused::Unknown));
    assert_eq!(me(&script, token).await, Value::Null);
}

#[tokio::test]
async fn a_script_ends_the_session_by_which_its_caller_was_let_in_without_seeing_it() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let eve = Account::of(&script, "eve").await;
    assert!(!log_out(&script, None).await, "nobody was let in");
    let session = enter(&api, "default", &eve.session).await.unwrap().session;
    let behind_the_route = Script::of(&api, "default").await.in_session(session);
    let elsewhere = log_in(&script, "eve", PASSWORD).await.unwrap()["token"].as_str().unwrap().to_owned();
    assert!(log_out(&behind_the_route, None).await && !log_out(&behind_the_route, None).await);
    assert_eq!(enter(&api, "default", &eve.session).await, Err(CredentialRefused::Unknown));
    assert!(enter(&api, "default", &elsewhere).await.is_ok());
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_login_are_one_answer() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    register(&script, "eve").await.unwrap();
    for (login, password) in
        [("eve", OTHER_PASSWORD), ("eve", ""), ("nobody", PASSWORD), ("", ""), ("a b", PASSWORD)]
    {
        assert_eq!(log_in(&script, login, password).await, Ok(Value::Null), "{login} {password}");
    }
}

/// Both compare with a hash: a login that is not there is not told by an answer that comes at once.
#[tokio::test]
async fn attack_56_a_login_of_an_app_that_is_not_there_takes_as_long_as_one_that_is() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    register(&script, "eve").await.unwrap();
    // What the process computes, and not how long it takes: other tests compute, too.
    let mut ticks = [0; 3];
    // A fifth guess would have to wait.
    for _ in 0..4 {
        for (ticks, login) in ticks.iter_mut().zip(["eve", "nobody", "no login"]) {
            let before = ticks_of_this_process();
            log_in(&script, login, OTHER_PASSWORD).await.unwrap();
            *ticks += ticks_of_this_process() - before;
        }
    }
    assert!(ticks[0] >= 4, "hashing shows: {ticks:?}");
    assert!(ticks.iter().all(|these| these * 2 > ticks[0]), "{ticks:?}");
}

/// CPU that this process has used, in hundredths of a second.
fn ticks_of_this_process() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name, in parentheses, may have spaces in it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let [user, system] = [11, 12].map(|at: usize| fields[at].parse::<u64>().unwrap());
    user + system
}

#[tokio::test]
async fn attack_56_guesses_at_a_user_of_an_app_are_slowed_down_and_the_user_is_not_locked_out() {
    let api = TestApi::start().await;
    let at = |number: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number));
    let home = Script::of(&api, "default").await.asked_by(at(0));
    register(&home, "eve").await.unwrap();
    log_in(&home, "eve", PASSWORD).await.unwrap();
    let mut throttled = 0;
    for number in 1..=20 {
        let stranger = Script::of(&api, "default").await.asked_by(at(number));
        match log_in(&stranger, "EVE", &format!("guess {number}")).await {
            Ok(answer) => assert_eq!(answer, Value::Null),
            Err(code) => {
                assert_eq!(code, "throttled");
                throttled += 1;
            }
        }
    }
    // Five at once, and one each twelve seconds.
    assert!(throttled >= 10, "{throttled}");
    assert!(log_in(&home, "eve", PASSWORD).await.unwrap()["token"].is_string());
    // What is guessed in one app is not counted in another.
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    let other = Script::of(&api, "other").await.asked_by(at(1));
    assert_eq!(log_in(&other, "eve", "guess").await, Ok(Value::Null));
}

#[tokio::test]
async fn a_session_of_another_app_of_a_person_or_of_nobody_lets_nobody_in() {
    let api = TestApi::start().await;
    api.post("/apps", json!({ "slug": "other" })).await.is(201);
    let eve = Account::of(&Script::of(&api, "default").await, "eve").await;
    let other = Script::of(&api, "other").await;
    assert_eq!(enter(&api, "other", &eve.session).await, Err(CredentialRefused::Unknown));
    assert_eq!(me(&other, &eve.session).await, Value::Null);
    for token in
        ["", "picu_", &api.token, &eve.reset, &eve.verification, &eve.session.replace("picu_", "pics_")]
    {
        assert_eq!(enter(&api, "default", token).await, Err(CredentialRefused::Unknown), "{token}");
    }
    // Nor is an app's user anybody to the admin API, or to a route for keys.
    api.with_token(eve.session.clone()).get("/auth/me").await.is_problem("unauthenticated");
    let app = api.app_id("default").await;
    let refused = api.manager.callers().authenticate(app, Shown::ApiKey(&eve.session)).await;
    assert_eq!(refused.unwrap_err(), CredentialRefused::Unknown);
}

#[tokio::test]
async fn a_credential_that_cannot_be_checked_is_nobodys_and_not_a_strangers() {
    let api = TestApi::start().await;
    let eve = Account::of(&Script::of(&api, "default").await, "eve").await;
    let (app, callers) = (api.app_id("default").await, api.manager.callers());
    api.database.execute("alter table app_user_sessions rename to gone").await;
    let refused = callers.authenticate(app, Shown::Session(&eve.session)).await;
    assert_eq!(refused.unwrap_err(), CredentialRefused::Unavailable);
}

#[tokio::test]
async fn who_is_disabled_or_gets_another_password_is_out_at_once() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let eve = Account::of(&script, "eve").await;
    let disable = |disabled| Update { id: &eve.id, disabled: Some(disabled), ..Update::default() };
    assert_eq!(update(&script, disable(true)).await.unwrap()["disabled"], true);
    assert_eq!(enter(&api, "default", &eve.session).await, Err(CredentialRefused::Unknown));
    assert_eq!(log_in(&script, "eve", PASSWORD).await, Ok(Value::Null));
    assert_eq!(issued(&script, HostOp::UsersReset, &Named { login: "eve" }).await, None);
    update(&script, disable(false)).await.unwrap();
    assert_eq!(enter(&api, "default", &eve.session).await, Err(CredentialRefused::Unknown), "it had ended");
    let session = log_in(&script, "eve", PASSWORD).await.unwrap()["token"].as_str().unwrap().to_owned();
    let change = Update { id: &eve.id, password: Some(OTHER_PASSWORD), ..Update::default() };
    update(&script, change).await.unwrap();
    assert_eq!(enter(&api, "default", &session).await, Err(CredentialRefused::Unknown));
    assert_eq!(log_in(&script, "eve", PASSWORD).await, Ok(Value::Null));
    assert!(log_in(&script, "eve", OTHER_PASSWORD).await.unwrap()["token"].is_string());
}

#[tokio::test]
async fn tokens_of_one_use_are_good_once_and_not_after_what_makes_them_pointless() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let eve = Account::of(&script, "eve").await;
    let verify = async |token: &str| ask(&script, HostOp::UsersVerify, &Token { token }).await.unwrap();
    assert_eq!(verify(&eve.reset).await, Value::Null, "another purpose");
    assert_eq!(verify(&eve.verification).await["verified"], true);
    assert_eq!(verify(&eve.verification).await, Value::Null);
    let reset = async |token: &str, password: &str| {
        ask(&script, HostOp::UsersResetPassword, &ResetPassword { token, password }).await
    };
    assert_eq!(reset(&eve.reset, "short").await, Err("invalid_argument".into()));
    assert_eq!(reset(&eve.reset, OTHER_PASSWORD).await.unwrap()["login"], "eve");
    assert_eq!(reset(&eve.reset, OTHER_PASSWORD).await, Ok(Value::Null));
    assert_eq!(enter(&api, "default", &eve.session).await, Err(CredentialRefused::Unknown));
    // A newer one takes the place of the one before; another address makes both good for nothing.
    let first = issued(&script, HostOp::UsersVerification, &Id { id: &eve.id }).await.unwrap();
    let second = issued(&script, HostOp::UsersVerification, &Id { id: &eve.id }).await.unwrap();
    assert_eq!(verify(&first).await, Value::Null);
    let moved = Update { id: &eve.id, login: Some("eve@example.org"), ..Update::default() };
    assert_eq!(update(&script, moved).await.unwrap()["verified"], false);
    assert_eq!(verify(&second).await, Value::Null);
    let old = issued(&script, HostOp::UsersReset, &Named { login: "eve@example.org" }).await.unwrap();
    api.database.execute("update app_user_tokens set expires_at = now() - interval '1 second'").await;
    assert_eq!(reset(&old, PASSWORD).await, Ok(Value::Null));
}

#[tokio::test]
async fn what_is_no_login_no_password_no_profile_and_no_role_is_refused() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let make = async |login: &str, password: &str, profile: &str| {
        ask(&script, HostOp::UsersRegister, &Register { login, password, profile }).await.unwrap_err()
    };
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(8 << 10));
    for (login, password, profile, code) in [
        ("", PASSWORD, "{}", "invalid_argument"),
        ("a b", PASSWORD, "{}", "invalid_argument"),
        ("a\0", PASSWORD, "{}", "invalid_argument"),
        (&"x".repeat(255), PASSWORD, "{}", "invalid_argument"),
        ("eve", "short", "{}", "invalid_argument"),
        ("eve", "password1", "{}", "invalid_argument"),
        ("eve", &"x7#".repeat(400), "{}", "invalid_argument"),
        ("eve", PASSWORD, "[]", "invalid_argument"),
        ("eve", PASSWORD, "{", "invalid_argument"),
        ("eve", PASSWORD, &long, "too_large"),
    ] {
        assert_eq!(make(login, password, profile).await, code, "{login:?} {profile:.20}");
    }
    let eve = Account::of(&script, "eve").await;
    let roles = Update { id: &eve.id, roles: Some(vec!["a b"]), ..Update::default() };
    assert_eq!(update(&script, roles).await, Err("invalid_argument".into()));
    register(&script, "adam").await.unwrap();
    let taken = Update { id: &eve.id, login: Some("ADAM"), ..Update::default() };
    assert_eq!(update(&script, taken).await, Err("conflict".into()));
    let missing = Update { id: "no id", ..Update::default() };
    assert_eq!(update(&script, missing).await, Err("not_found".into()));
}

#[tokio::test]
async fn passwords_and_tokens_are_in_no_log_and_only_as_hashes_in_the_database() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let eve = Account::of(&script, "eve").await;
    for secret in [PASSWORD, &eve.session, &eve.verification, &eve.reset] {
        assert_eq!(script.redacted(secret), "[secret]");
    }
    for table in ["app_users", "app_user_sessions", "app_user_tokens"] {
        let rows = format!("select string_agg(r::text, ' ') from {table} r");
        let rows: String = api.database.scalar(&rows).await;
        for secret in [PASSWORD, &eve.session[5..], &eve.verification[5..], &eve.reset[5..]] {
            assert!(!rows.contains(secret) && rows.len() > 50, "{table}: {rows}");
        }
    }
}

#[tokio::test]
async fn lists_are_paged_and_who_is_removed_is_gone_with_their_sessions() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    for login in ["a", "b", "c"] {
        register(&script, login).await.unwrap();
    }
    let list = async |limit, after: &str| ask(&script, HostOp::UsersList, &List { limit, after }).await;
    let logins = |page: &Value| {
        page["items"].as_array().unwrap().iter().map(|user| user["login"].clone()).collect::<Vec<_>>()
    };
    let first = list(2, "").await.unwrap();
    assert_eq!(logins(&first), ["a", "b"]);
    let rest = list(2, first["cursor"].as_str().unwrap()).await.unwrap();
    assert_eq!((logins(&rest), &rest["cursor"]), (vec![json!("c")], &Value::Null));
    for (limit, after) in [(0, ""), (201, ""), (1, "no id")] {
        assert_eq!(list(limit, after).await, Err("invalid_argument".into()), "{limit} {after}");
    }
    let session = log_in(&script, "a", PASSWORD).await.unwrap();
    let delete = Id { id: session["user"]["id"].as_str().unwrap() };
    assert!(script.call(HostOp::UsersDelete, &delete).await.unwrap().read::<Existed>().existed);
    assert!(!script.call(HostOp::UsersDelete, &delete).await.unwrap().read::<Existed>().existed);
    let token = session["token"].as_str().unwrap();
    assert_eq!(enter(&api, "default", token).await, Err(CredentialRefused::Unknown));
    assert_eq!(ask(&script, HostOp::UsersGet, &delete).await, Ok(Value::Null));
}

#[tokio::test]
async fn the_oldest_session_of_a_user_ends_when_there_are_too_many_and_old_ones_end_by_themselves() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let eve = Account::of(&script, "eve").await;
    api.database
        .execute(
            "insert into app_user_sessions (app_id, id, user_id, token_hash, expires_at)
             select app_id, ('ffffffff-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, user_id,
                    sha256(n::text::bytea), now() + interval '1 day'
             from app_user_sessions, generate_series(1, 60) n",
        )
        .await;
    log_in(&script, "eve", PASSWORD).await.unwrap();
    let count = "select count(*) from app_user_sessions";
    assert_eq!(api.database.scalar::<i64>(count).await, 50);
    assert_eq!(me(&script, &eve.session).await, Value::Null, "it was the oldest");
    let adam = Account::of(&script, "adam").await;
    for (column, ago) in [("last_seen_at", "25 hours"), ("expires_at", "1 second")] {
        let token = log_in(&script, "adam", PASSWORD).await.unwrap()["token"].as_str().unwrap().to_owned();
        api.database
            .execute(&format!(
                "update app_user_sessions set created_at = now() - interval '31 days', {column} = now() - interval '{ago}'
                 where user_id = '{}'",
                adam.id
            ))
            .await;
        assert_eq!(enter(&api, "default", &token).await, Err(CredentialRefused::Unknown), "{column}");
    }
}

#[tokio::test]
async fn an_apps_people_see_its_users_disable_them_end_their_sessions_and_remove_them() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let eve = Account::of(&script, "Eve").await;
    register(&script, "adam").await.unwrap();
    let all = api.all_pages("/apps/default/users", 1).await;
    assert_eq!(all.iter().map(|user| &user["login"]).collect::<Vec<_>>(), ["Eve", "adam"]);
    let found = api.get("/apps/default/users?login=eve").await;
    assert_eq!(found.is(200)["items"][0]["id"], json!(eve.id));
    assert!(!found.text.contains("argon2"), "{}", found.text);
    let path = format!("/apps/default/users/{}", eve.id);
    let reply = api.post(&format!("{path}:end-sessions"), json!({})).await;
    assert_eq!(reply.is(200)["count"], 1);
    assert_eq!(enter(&api, "default", &eve.session).await, Err(CredentialRefused::Unknown));
    let session = log_in(&script, "eve", PASSWORD).await.unwrap()["token"].as_str().unwrap().to_owned();
    let change = json!({ "disabled": true, "roles": ["vip", "vip"] });
    let changed = api.call("PATCH", &path, Some(change)).await;
    assert!(changed.is(200)["disabled_at"].is_string());
    assert_eq!(changed.json["roles"], json!(["vip"]));
    assert_eq!(enter(&api, "default", &session).await, Err(CredentialRefused::Unknown));
    api.call("PATCH", &path, Some(json!({ "disabled": false }))).await.is(200);
    api.call("PATCH", &path, Some(json!({ "roles": ["a b"] }))).await.is_problem("invalid_input");
    api.call("PATCH", &path, Some(json!({ "password": PASSWORD }))).await.is_problem("invalid_input");
    api.call("DELETE", &path, None).await.is(204);
    api.get(&path).await.is_problem("not_found");
    api.get("/apps/default/users/no-such-id").await.is_problem("not_found");
    let audit = api.get("/apps/default/audit").await;
    for action in ["app_user.update", "app_user.delete", "app_user.end_sessions"] {
        assert!(audit.text.contains(action), "{action}: {}", audit.text);
    }
    let refused = api.call("DELETE", "/apps/default", None).await;
    assert_eq!(refused.is_problem("conflict")["contents"]["users"], 1);
}
