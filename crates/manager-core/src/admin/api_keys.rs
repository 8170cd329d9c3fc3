//! API keys of the caller. They are made and removed from a session only: a key that leaked must
//! not be able to make others.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::fault::Code;
use shared::id::ApiKeyId;
use sqlx::postgres::PgConnection;

use super::idempotency::Once;
use super::page::{Items, PageParams};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::{Admin, access};
use crate::audit::{self, Entry};
use crate::auth::{Capability, NewKey, Principal, Scope, generate_key};
use crate::store;
use crate::store::api_keys::{ApiKey, NewApiKey};

const NAME_CHARS_MAX: usize = 100;
/// Keys of one person: one for each of very many programs.
const KEYS_MAX: i64 = 100;
/// Ten years: a key for longer is one that does not expire.
const EXPIRES_IN_S_MAX: u32 = 315_360_000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyBody {
    #[schemars(length(min = 1, max = NAME_CHARS_MAX))]
    name: String,
    #[schemars(length(min = 1))]
    scopes: Vec<Scope>,
    /// Slug or id of the only app the key is good for.
    app: Option<String>,
    /// Seconds from now; without it the key does not expire.
    #[schemars(range(min = 1, max = EXPIRES_IN_S_MAX))]
    expires_in_s: Option<u32>,
}

/// A new key: the only answer that ever shows it.
#[derive(Serialize, JsonSchema)]
pub(super) struct KeyOnce {
    #[serde(flatten)]
    about: ApiKey,
    key: String,
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<ApiKey>>, ApiError> {
    let page = params.page::<ApiKeyId>()?;
    let mut conn = admin.database.acquire().await?;
    let rows = store::api_keys::page(&mut conn, principal.user.id, page.after, page.rows()).await?;
    Ok(JsonBody(page.items(rows, |key| key.id.to_string())))
}

pub(super) async fn create(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Json(body): Json<KeyBody>,
) -> Result<(StatusCode, Once<KeyOnce>), ApiError> {
    let name = name(&body.name)?;
    let scopes = scopes(body.scopes, body.app.is_some())?;
    let expires_at = body.expires_in_s.map(expiry).transpose()?;
    let mut tx = admin.database.begin().await?;
    let app = match &body.app {
        Some(key) => Some(access::app(&mut tx, &principal, key, Capability::ReadApp).await?.id),
        None => None,
    };
    refuse_too_many(&mut tx, &principal).await?;
    let NewKey { key, hint, hash: secret_hash } = generate_key()?;
    let (user, hint, scopes) = (principal.user.id, hint.as_str(), scopes.as_slice());
    let new = NewApiKey { user, name, hint, secret_hash, scopes, app, expires_at };
    let about = store::api_keys::create(&mut tx, new).await?;
    // Not of the app it is bound to: who administers an app has no say in other people's keys.
    let entry = Entry::new(&principal, "api_key.create", &about.name).after(&about);
    audit::append(&mut tx, entry).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Once(KeyOnce { about, key })))
}

pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let missing = || ApiError::not_found("you have no such key");
    let id: ApiKeyId = id.parse().map_err(|_| missing())?;
    let mut tx = admin.database.begin().await?;
    let old = store::api_keys::delete(&mut tx, principal.user.id, id).await?.ok_or_else(missing)?;
    let entry = Entry::new(&principal, "api_key.delete", &old.name).before(&old);
    audit::append(&mut tx, entry).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn name(text: &str) -> Result<&str, ApiError> {
    let name = text.trim();
    if (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control) {
        return Ok(name);
    }
    let detail = format!("a key's name has 1 to {NAME_CHARS_MAX} characters and no control characters");
    Err(ApiError::invalid(detail).with("field", "name"))
}

fn scopes(mut given: Vec<Scope>, is_bound: bool) -> Result<Vec<Scope>, ApiError> {
    given.sort_by_key(|scope| scope.as_str());
    given.dedup();
    if given.is_empty() {
        let all = Scope::ALL.map(Scope::as_str).join(", ");
        return Err(ApiError::invalid(format!("a key needs one of the scopes {all}")).with("field", "scopes"));
    }
    if is_bound && given.contains(&Scope::InstanceAdmin) {
        let detail =
            "a key that is for one app cannot have the scope instance:admin, which is for all of them";
        return Err(ApiError::invalid(detail).with("field", "scopes"));
    }
    Ok(given)
}

fn expiry(seconds: u32) -> Result<DateTime<Utc>, ApiError> {
    if !(1..=EXPIRES_IN_S_MAX).contains(&seconds) {
        let detail = format!("expires_in_s is {seconds}; it may be 1 to {EXPIRES_IN_S_MAX}, or absent");
        return Err(ApiError::invalid(detail).with("field", "expires_in_s"));
    }
    Ok(Utc::now() + TimeDelta::seconds(seconds.into()))
}

/// Two at once may make one too many, which does no harm.
async fn refuse_too_many(conn: &mut PgConnection, principal: &Principal) -> Result<(), ApiError> {
    if store::api_keys::count(conn, principal.user.id).await? < KEYS_MAX {
        return Ok(());
    }
    Err(ApiError::new(Code::Conflict, format!("you have {KEYS_MAX} keys; remove one first")))
}
