//! People, as those who manage them see them. Nobody gives a role above their own or changes
//! somebody who stands above them, and the instance always keeps an owner who can log in.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use http::StatusCode;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use shared::fault::Code;
use shared::id::UserId;
use shared::name::Username;
use sqlx::postgres::PgConnection;

use super::page::{Items, PageParams};
use super::precondition::{Preconditions, Resource, Tagged};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::{Admin, access, members};
use crate::audit::{self, Entry};
use crate::auth::{HashError, Principal, outranks};
use crate::store;
use crate::store::users::{Person, Role};

/// Those calls ask for the password again, so that a stolen session or key is not the account.
const OWN_ACCOUNT: &str = "one's own password is changed with POST /auth/password, and one's own second factor \
     removed with POST /auth/totp:remove";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    #[schemars(with = "Username")]
    username: String,
    #[schemars(with = "String", length(min = 8, max = 1_024))]
    password: SecretString,
    #[serde(default = "member")]
    role: Role,
}

fn member() -> Role {
    Role::Member
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserPatch {
    role: Option<Role>,
    disabled: Option<bool>,
    /// A new password, for somebody who forgot theirs; every session of theirs ends.
    #[schemars(with = "Option<String>", length(min = 8, max = 1_024))]
    password: Option<SecretString>,
    /// For somebody who lost their phone and their recovery codes.
    #[serde(default)]
    reset_second_factor: bool,
}

impl Resource for Person {
    fn state(&self) -> &impl Serialize {
        self
    }
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<Person>>, ApiError> {
    let page = params.page::<String>()?;
    let mut conn = admin.database.acquire().await?;
    let rows = store::users::page(&mut conn, page.after.as_deref(), page.rows()).await?;
    Ok(JsonBody(page.items(rows, |person| person.user.username.to_string())))
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    Path(key): Path<String>,
) -> Result<Tagged<Person>, ApiError> {
    let mut conn = admin.database.acquire().await?;
    members::person(&mut conn, &key).await?.ok_or_else(no_user).map(Tagged)
}

pub(super) async fn create(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Json(body): Json<NewUser>,
) -> Result<(StatusCode, Tagged<Person>), ApiError> {
    outranks(&principal, body.role).map_err(|denial| access::forbidden(&denial))?;
    let username = username(&body.username)?;
    let hash = admin.auth.hash_new_password(body.password, &username).await?;
    let mut tx = admin.database.begin().await?;
    let person = make(&mut tx, &username, Some(&hash), body.role).await?;
    let entry = Entry::new(&principal, "user.create", &username).after(&person);
    audit::append(&mut tx, entry).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Tagged(person)))
}

/// Makes an account, unless the name is taken. Who logs in elsewhere has no password.
pub(super) async fn make(
    conn: &mut PgConnection,
    username: &Username,
    hash: Option<&str>,
    role: Role,
) -> Result<Person, ApiError> {
    let id = store::users::create(conn, username, hash, role).await.map_err(|error| {
        if store::violates(&error, store::users::USERNAME_KEY) {
            let detail = format!("another user has the name {username}");
            return ApiError::new(Code::Conflict, detail).with("field", "username");
        }
        error.into()
    })?;
    store::users::by_id(conn, id).await?.ok_or_else(no_user)
}

pub(super) async fn update(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Path(key): Path<String>,
    preconditions: Preconditions,
    Json(body): Json<UserPatch>,
) -> Result<Tagged<Person>, ApiError> {
    let hash = match body.password {
        Some(password) => Some(hash_for(&admin, &key, password).await?),
        None => None,
    };
    let mut tx = admin.database.begin().await?;
    let old = managed(&mut tx, &principal, &key).await?;
    preconditions.check(Some(&old))?;
    if old.user.id == principal.user.id && (hash.is_some() || body.reset_second_factor) {
        return Err(ApiError::new(Code::Conflict, OWN_ACCOUNT));
    }
    if let Some(role) = body.role {
        outranks(&principal, role).map_err(|denial| access::forbidden(&denial))?;
        store::users::set_role(&mut tx, old.user.id, role).await?;
    }
    if let Some(is_disabled) = body.disabled {
        store::users::set_disabled(&mut tx, old.user.id, is_disabled).await?;
    }
    if let Some(hash) = &hash {
        store::users::set_password_hash(&mut tx, old.user.id, hash).await?;
    }
    if body.reset_second_factor {
        store::second_factors::remove(&mut tx, old.user.id).await?;
    }
    if hash.is_some() || body.disabled == Some(true) {
        store::sessions::end_all(&mut tx, old.user.id, None).await?;
    }
    refuse_no_owner(&mut tx).await?;
    let now = store::users::by_id(&mut tx, old.user.id).await?.ok_or_else(no_user)?;
    let action = match (&hash, body.reset_second_factor) {
        (Some(_), _) => "user.reset_password",
        (None, true) => "user.reset_second_factor",
        (None, false) => "user.update",
    };
    audit::append(&mut tx, Entry::new(&principal, action, &now.user.username).before(&old).after(&now))
        .await?;
    // What triggers may do follows what the people behind them may.
    admin.snapshot.publish(tx).await?;
    Ok(Tagged(now))
}

/// The hash of a new password for somebody, made before anything is locked: it takes its time.
async fn hash_for(admin: &Admin, key: &str, password: SecretString) -> Result<String, ApiError> {
    let person = members::person(&mut *admin.database.acquire().await?, key).await?.ok_or_else(no_user)?;
    Ok(admin.auth.hash_new_password(password, &person.user.username).await?)
}

pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Path(key): Path<String>,
    preconditions: Preconditions,
) -> Result<StatusCode, ApiError> {
    let mut tx = admin.database.begin().await?;
    let old = managed(&mut tx, &principal, &key).await?;
    preconditions.check(Some(&old))?;
    let apps = store::apps::owned_by(&mut tx, old.user.id).await?;
    if !apps.is_empty() {
        let detail = format!(
            "{} owns the apps {}; give them away with POST /apps/{{app}}:transfer or remove them first",
            old.user.username,
            apps.join(", ")
        );
        return Err(ApiError::new(Code::Conflict, detail).with("apps", apps));
    }
    store::users::delete(&mut tx, old.user.id).await?;
    refuse_no_owner(&mut tx).await?;
    audit::append(&mut tx, Entry::new(&principal, "user.delete", &old.user.username).before(&old)).await?;
    // What triggers may do follows what the people behind them may.
    admin.snapshot.publish(tx).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A person whom the caller may manage, locked together with the question who the owners are.
async fn managed(conn: &mut PgConnection, principal: &Principal, key: &str) -> Result<Person, ApiError> {
    store::users::lock_roles(conn).await?;
    let person = members::person(conn, key).await?.ok_or_else(no_user)?;
    outranks(principal, person.user.role).map_err(|denial| access::forbidden(&denial))?;
    Ok(person)
}

async fn refuse_no_owner(conn: &mut PgConnection) -> Result<(), ApiError> {
    if store::users::has_enabled_owner(conn).await? {
        return Ok(());
    }
    let detail = "the instance would have no owner who can log in; make somebody else an owner first";
    Err(ApiError::new(Code::Conflict, detail))
}

pub(super) fn username(text: &str) -> Result<Username, ApiError> {
    if text.parse::<UserId>().is_ok() {
        let detail = "a user's name may not look like an id, because addresses take either";
        return Err(ApiError::invalid(detail).with("field", "username"));
    }
    text.parse().map_err(|error| ApiError::invalid(format!("{error}")).with("field", "username"))
}

fn no_user() -> ApiError {
    ApiError::not_found("there is no such user")
}

impl From<HashError> for ApiError {
    fn from(error: HashError) -> Self {
        let detail = error.to_string();
        match error {
            HashError::Busy => Self::new(Code::TooManyRequests, detail).retry_after(1),
            HashError::Length | HashError::Short | HashError::Common => {
                Self::invalid(detail).with("field", "password")
            }
            HashError::Hash(_) => {
                tracing::error!(%error, "a password could not be hashed");
                Self::new(Code::Internal, "the platform failed")
            }
        }
    }
}
