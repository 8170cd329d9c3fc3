//! `users`: the accounts of the app's own users. The script is the gate to them, as to all that its app
//! keeps; what nobody but the app's people may do, it cannot do with them: they have no rights on the instance.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use shared::allowance::Allowance;
use shared::call::{CallCode, CallError, HostCall, Reply};
use shared::host_call::users::{
    Existed, Found, Id, Issued, List, Login, Logout, Named, Register, ResetPassword, Token, Update,
};
use shared::id::AppUserId;
use shared::limits::{
    APP_USER_ROLES_MAX, APP_USER_SESSIONS_MAX, APP_USERS_LIST_MAX, APP_USERS_MAX, PASSWORD_BYTES_MAX,
};
use shared::name::AppLogin;
use sqlx::postgres::PgConnection;

use super::{Services, args, begin};
use crate::app_users::{self, Attempt, not_written};
use crate::auth::{AppToken, HashError, NoEntropy, Verdict};
use crate::data::rehearsal::Rehearsal;
use crate::data::{Access, Told, failed};
use crate::store;
use crate::store::app_user_tokens::Purpose;
use crate::store::app_users::{Account, AppUser, Change};

pub(super) async fn register(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let Register { login, password, profile } = args(call)?;
    keep_to_oneself(call, password)?;
    let app = call.context.app();
    let login = app_users::login(login)?;
    app_users::check_profile(profile)?;
    let hash = services.app_users.hash(app, password, &login).await?;
    let mut tx = services.data.begin(&Access::of_script(call)).await?;
    begin(call)?;
    let made = store::app_users::create(&mut tx, app, &login, &hash, profile).await;
    let user = made.map_err(|error| not_written(&error))?;
    let count = store::app_users::count_up_to(&mut tx, app, APP_USERS_MAX).await;
    if count.map_err(|error| failed(&error))? > APP_USERS_MAX {
        let message = format!("an app has {APP_USERS_MAX} users at most");
        return Err(CallError::new(CallCode::BudgetExhausted, message));
    }
    tx.commit(Told::default()).await?;
    Ok(found(Some(&show(&user))))
}

/// Nobody is told whether the login or the password was wrong, nor by how long it takes.
pub(super) async fn login(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let Login { login, password } = args(call)?;
    let is_possible = password.len() <= PASSWORD_BYTES_MAX;
    if is_possible {
        call.context.confidential.add(password)?;
    }
    let app = call.context.app();
    let attempt = Attempt {
        is_rehearsed: Rehearsal::of(call).is_some(),
        ..Attempt::new(app, login, call.context.client)
    };
    services.app_users.admit(&attempt)?;
    // Whoever's login it is, this is not their password.
    if !is_possible {
        return Ok(found(None));
    }
    let account = match login.parse::<AppLogin>() {
        Ok(login) => account(services, call, &login).await?,
        // What cannot be a login is nobody's.
        Err(_) => None,
    };
    // No connection is held while the hash is computed: there are fewer of them than of callers.
    let stored = account.as_ref().map(|account| account.password_hash.clone());
    let verdict = services.app_users.compare(app, password, stored).await?;
    let account = account.filter(|account| account.user.disabled_at.is_none());
    let (Some(Account { user, password_hash }), true) = (account, verdict != Verdict::Wrong) else {
        return Ok(found(None));
    };
    services.app_users.succeeded(&attempt);
    let (token, token_hash) = AppToken::Session.generate().map_err(no_entropy)?;
    call.context.confidential.add(&token)?;
    let mut tx = services.data.begin(&Access::of_script(call)).await?;
    begin(call)?;
    let begun = async {
        store::app_user_sessions::forget_ended(&mut tx, app).await?;
        let begun =
            store::app_user_sessions::create(&mut tx, app, user.id, &password_hash, token_hash).await?;
        store::app_user_sessions::end_beyond(&mut tx, app, user.id, APP_USER_SESSIONS_MAX).await?;
        if let Verdict::RightRehashed(hash) = &verdict {
            store::app_users::rehash(&mut tx, app, user.id, &password_hash, hash).await?;
        }
        Ok(begun)
    };
    let Some(expires_at) = begun.await.map_err(|error: sqlx::Error| failed(&error))? else {
        return Ok(found(None));
    };
    tx.commit(Told::default()).await?;
    Ok(found(Some(&json!({ "token": token, "expires_at": rfc3339(expires_at), "user": show(&user) }))))
}

pub(super) async fn logout(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let Logout { token } = args(call)?;
    let app = call.context.app();
    let mut tx = services.data.begin(&Access::of_script(call)).await?;
    begin(call)?;
    let ended = match (token, call.context.session) {
        (Some(token), _) => match AppToken::Session.stored_form(token) {
            Some(hash) => store::app_user_sessions::end_of_token(&mut tx, app, hash).await,
            None => Ok(false),
        },
        (None, Some(session)) => store::app_user_sessions::end(&mut tx, app, session).await,
        (None, None) => Ok(false),
    };
    let existed = ended.map_err(|error| failed(&error))?;
    tx.commit(Told::default()).await?;
    Ok(Reply::success(&Existed { existed }))
}

pub(super) async fn me(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let Token { token } = args(call)?;
    let app = call.context.app();
    let Some(hash) = AppToken::Session.stored_form(token) else { return Ok(found(None)) };
    call.context.confidential.add(token)?;
    let mut conn = services.data.acquire(&Access::of_script(call)).await?;
    let live = store::app_user_sessions::live(&mut conn, app, hash).await;
    let session = match live {
        Ok(Some(session)) if session.needs_sight => {
            let seen = store::app_user_sessions::mark_seen(&mut conn, app, session.id).await;
            conn.answered(seen).map(|_| Some(session))
        }
        live => conn.answered(live),
    };
    let Some(session) = session.map_err(|error| failed(&error))? else { return Ok(found(None)) };
    Ok(found(Some(&show(&session.user))))
}

pub(super) async fn get(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let Id { id } = args(call)?;
    // What is no id is nobody's.
    let Ok(id) = id.parse::<AppUserId>() else { return Ok(found(None)) };
    let mut conn = services.data.acquire(&Access::of_script(call)).await?;
    let user = store::app_users::by_id(&mut conn, call.context.app(), id).await;
    let user = conn.answered(user).map_err(|error| failed(&error))?;
    Ok(found(user.as_ref().map(show).as_ref()))
}

pub(super) async fn list(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let List { limit, after } = args(call)?;
    if !(1..=APP_USERS_LIST_MAX).contains(&limit) {
        return Err(CallError::invalid(format!("limit is {limit}; it may be 1 to {APP_USERS_LIST_MAX}")));
    }
    let after: Option<AppUserId> = match after {
        "" => None,
        id => Some(id.parse().map_err(|_| CallError::invalid("cursor is not one that a list gave out"))?),
    };
    let left = &call.context.left;
    left.spend(Allowance::Rows, limit as usize)?;
    let mut conn = services.data.acquire(&Access::of_script(call)).await?;
    // One more than shown tells whether there are others.
    let rows = i64::from(limit) + 1;
    let page = store::app_users::page(&mut conn, call.context.app(), None, after, rows).await;
    let mut page = conn.answered(page).map_err(|error| failed(&error))?;
    let has_more = page.len() > limit as usize;
    page.truncate(limit as usize);
    left.give_back(Allowance::Rows, limit as usize - page.len());
    let cursor = page.last().filter(|_| has_more).map(|user| user.id);
    let items: Vec<_> = page.iter().map(show).collect();
    Ok(found(Some(&json!({ "items": items, "cursor": cursor }))))
}

pub(super) async fn update(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let Update { id, login, password, profile, roles, verified, disabled } = args(call)?;
    let app = call.context.app();
    let id: AppUserId = id.parse().map_err(|_| no_user())?;
    let login = login.map(app_users::login).transpose()?;
    profile.map(app_users::check_profile).transpose()?;
    let roles = roles.as_deref().map(roles_of).transpose()?;
    let hash = match password {
        Some(password) => Some(hash_for(services, call, id, password).await?),
        None => None,
    };
    let change = Change {
        login: login.as_ref(),
        password_hash: hash.as_deref(),
        profile,
        roles: roles.as_deref(),
        verified,
        disabled,
    };
    let mut tx = services.data.begin(&Access::of_script(call)).await?;
    begin(call)?;
    let user = store::app_users::update(&mut tx, app, id, change).await;
    let user = user.map_err(|error| not_written(&error))?.ok_or_else(no_user)?;
    let ended = async {
        if hash.is_some() || disabled == Some(true) {
            store::app_user_sessions::end_all(&mut tx, app, id).await?;
        }
        // What was sent to the former address, or asked for before, is good for nothing any more.
        if hash.is_some() || login.is_some() {
            store::app_user_tokens::forget(&mut tx, app, id).await?;
        }
        Ok(())
    };
    ended.await.map_err(|error: sqlx::Error| failed(&error))?;
    tx.commit(Told::default()).await?;
    Ok(found(Some(&show(&user))))
}

pub(super) async fn delete(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let Id { id } = args(call)?;
    let Ok(id) = id.parse::<AppUserId>() else { return Ok(Reply::success(&Existed { existed: false })) };
    let mut tx = services.data.begin(&Access::of_script(call)).await?;
    begin(call)?;
    let existed = store::app_users::delete(&mut tx, call.context.app(), id).await;
    let existed = existed.map_err(|error| failed(&error))?;
    tx.commit(Told::default()).await?;
    Ok(Reply::success(&Existed { existed }))
}

pub(super) async fn verification(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let Id { id } = args(call)?;
    let id: AppUserId = id.parse().map_err(|_| no_user())?;
    let mut tx = services.data.begin(&Access::of_script(call)).await?;
    begin(call)?;
    let token = issue(&mut tx, call, id, (Purpose::Verify, AppToken::Verify)).await?.ok_or_else(no_user)?;
    tx.commit(Told::default()).await?;
    Ok(Reply::success(&Issued { token: Some(&token) }))
}

pub(super) async fn verify(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let Token { token } = args(call)?;
    let app = call.context.app();
    let Some(hash) = AppToken::Verify.stored_form(token) else { return Ok(found(None)) };
    let mut tx = services.data.begin(&Access::of_script(call)).await?;
    begin(call)?;
    let verified = async {
        let Some(id) = store::app_user_tokens::take(&mut tx, app, Purpose::Verify, hash).await? else {
            return Ok(None);
        };
        let change = Change { verified: Some(true), ..Change::default() };
        store::app_users::update(&mut tx, app, id, change).await
    };
    let user = verified.await.map_err(|error: sqlx::Error| failed(&error))?;
    tx.commit(Told::default()).await?;
    Ok(found(user.as_ref().map(show).as_ref()))
}

pub(super) async fn reset(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let Named { login } = args(call)?;
    let nobody = || Reply::success(&Issued { token: None });
    let Ok(login) = login.parse::<AppLogin>() else { return Ok(nobody()) };
    let account = account(services, call, &login).await?;
    let Some(Account { user, .. }) = account.filter(|account| account.user.disabled_at.is_none()) else {
        return Ok(nobody());
    };
    let mut tx = services.data.begin(&Access::of_script(call)).await?;
    begin(call)?;
    let token = issue(&mut tx, call, user.id, (Purpose::Reset, AppToken::Reset)).await?;
    tx.commit(Told::default()).await?;
    Ok(Reply::success(&Issued { token: token.as_deref() }))
}

pub(super) async fn reset_password(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let ResetPassword { token, password } = args(call)?;
    let app = call.context.app();
    let Some(token_hash) = AppToken::Reset.stored_form(token) else { return Ok(found(None)) };
    let holder = {
        let mut conn = services.data.acquire(&Access::of_script(call)).await?;
        let holder = store::app_user_tokens::holder(&mut conn, app, Purpose::Reset, token_hash).await;
        conn.answered(holder).map_err(|error| failed(&error))?
    };
    // Looked at before, so that nobody has passwords hashed without a token.
    let Some(id) = holder else { return Ok(found(None)) };
    let hash = hash_for(services, call, id, password).await?;
    let mut tx = services.data.begin(&Access::of_script(call)).await?;
    begin(call)?;
    let changed = async {
        if store::app_user_tokens::take(&mut tx, app, Purpose::Reset, token_hash).await? != Some(id) {
            return Ok(None);
        }
        let change = Change { password_hash: Some(&hash), ..Change::default() };
        store::app_user_sessions::end_all(&mut tx, app, id).await?;
        store::app_users::update(&mut tx, app, id, change).await
    };
    let user = changed.await.map_err(|error: sqlx::Error| failed(&error))?;
    tx.commit(Told::default()).await?;
    Ok(found(user.as_ref().map(show).as_ref()))
}

/// Roles that an update names. Of a list that is too long there is only the beginning, so it is refused even where
/// names come again and again.
fn roles_of(names: &[&str]) -> Result<Vec<String>, CallError> {
    let roles = app_users::roles(names.iter().copied())?;
    if names.len() > APP_USER_ROLES_MAX {
        return Err(CallError::invalid(format!("a user has {APP_USER_ROLES_MAX} roles at most")));
    }
    Ok(roles)
}

async fn account(
    services: &Services,
    call: &HostCall,
    login: &AppLogin,
) -> Result<Option<Account>, CallError> {
    let mut conn = services.data.acquire(&Access::of_script(call)).await?;
    let account = store::app_users::account(&mut conn, call.context.app(), login).await;
    conn.answered(account).map_err(|error| failed(&error))
}

/// Sees to it that no log shows a new password. One that is too long is refused before anything is kept of it.
fn keep_to_oneself(call: &HostCall, password: &str) -> Result<(), CallError> {
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(CallError::invalid(HashError::Length.to_string()));
    }
    call.context.confidential.add(password)
}

/// The hash of a new password for somebody, made before anything is locked: it takes its time.
async fn hash_for(
    services: &Services,
    call: &HostCall,
    id: AppUserId,
    password: &str,
) -> Result<String, CallError> {
    keep_to_oneself(call, password)?;
    let app = call.context.app();
    let user = {
        let mut conn = services.data.acquire(&Access::of_script(call)).await?;
        let user = store::app_users::by_id(&mut conn, app, id).await;
        conn.answered(user).map_err(|error| failed(&error))?
    };
    let login = app_users::login(&user.ok_or_else(no_user)?.login)?;
    services.app_users.hash(app, password, &login).await
}

/// A new token of one use, which no log shows.
async fn issue(
    conn: &mut PgConnection,
    call: &HostCall,
    user: AppUserId,
    (purpose, kind): (Purpose, AppToken),
) -> Result<Option<String>, CallError> {
    let (token, hash) = kind.generate().map_err(no_entropy)?;
    call.context.confidential.add(&token)?;
    let issued = store::app_user_tokens::issue(conn, call.context.app(), user, purpose, hash).await;
    Ok(issued.map_err(|error| failed(&error))?.then_some(token))
}

/// A user as scripts see one.
fn show(user: &AppUser) -> Value {
    json!({
        "id": user.id,
        "login": user.login,
        "roles": user.roles,
        "profile": user.profile,
        "verified": user.verified_at.is_some(),
        "disabled": user.disabled_at.is_some(),
        "created_at": rfc3339(user.created_at),
        "updated_at": rfc3339(user.updated_at),
    })
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn found(value: Option<&Value>) -> Reply {
    let json = value.map(Value::to_string);
    Reply::success(&Found { json: json.as_deref() })
}

fn no_user() -> CallError {
    CallError::new(CallCode::NotFound, "the app has no user of this id")
}

fn no_entropy(error: NoEntropy) -> CallError {
    tracing::error!(%error, "no token can be made");
    CallError::new(CallCode::Internal, "the platform failed")
}
