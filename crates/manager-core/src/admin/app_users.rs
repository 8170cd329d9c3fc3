//! An app's own users, as the app's people see them. Accounts are made by the app's scripts.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::id::AppUserId;
use shared::name::AppLogin;
use sqlx::postgres::PgConnection;

use super::Admin;
use super::page::{Items, Page};
use super::precondition::{Preconditions, Resource, Tagged};
use super::problem::ApiError;
use super::read::{Json, Params};
use crate::app_users;
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::store;
use crate::store::app_users::{AppUser, Change};
use crate::store::apps::App;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserParams {
    /// Most items of the page.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only the user of this login, whatever its case.
    login: Option<String>,
}

/// What the app's people change of a user; the rest is the business of the app's scripts.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AppUserPatch {
    /// Ends every session of theirs, and lets them begin none.
    disabled: Option<bool>,
    verified: Option<bool>,
    /// At most 32 words.
    roles: Option<Vec<String>>,
}

impl Resource for AppUser {
    fn state(&self) -> &impl Serialize {
        self
    }
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<UserParams>,
) -> Result<JsonBody<Items<AppUser>>, ApiError> {
    let page = Page::<AppUserId>::new(params.limit, params.cursor.as_deref())?;
    let login = params.login.as_deref().map(str::parse::<AppLogin>).transpose();
    let login = login.map_err(|error| ApiError::invalid(format!("{error}")).with("field", "login"))?;
    let mut conn = admin.database.acquire().await?;
    let rows = store::app_users::page(&mut conn, app.id, login.as_ref(), page.after, page.rows()).await?;
    Ok(JsonBody(page.items(rows, |user| user.id.to_string())))
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    app: App,
    Path((_, id)): Path<(String, String)>,
) -> Result<Tagged<AppUser>, ApiError> {
    let mut conn = admin.database.acquire().await?;
    store::app_users::by_id(&mut conn, app.id, parse(&id)?).await?.map(Tagged).ok_or_else(no_user)
}

pub(super) async fn update(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, id)): Path<(String, String)>,
    preconditions: Preconditions,
    Json(body): Json<AppUserPatch>,
) -> Result<Tagged<AppUser>, ApiError> {
    let roles = body.roles.map(|roles| app_users::roles(roles.iter().map(String::as_str))).transpose()?;
    let mut tx = admin.database.begin().await?;
    let old = locked(&mut tx, &app, &id).await?;
    preconditions.check(Some(&old))?;
    let change = Change {
        roles: roles.as_deref(),
        verified: body.verified,
        disabled: body.disabled,
        ..Change::default()
    };
    let user = store::app_users::update(&mut tx, app.id, old.id, change).await?.ok_or_else(no_user)?;
    if body.disabled == Some(true) {
        store::app_user_sessions::end_all(&mut tx, app.id, old.id).await?;
    }
    let entry = Entry::new(&principal, "app_user.update", user.id).on(app.id).before(&old).after(&user);
    audit::append(&mut tx, entry).await?;
    tx.commit().await?;
    Ok(Tagged(user))
}

pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, id)): Path<(String, String)>,
    preconditions: Preconditions,
) -> Result<StatusCode, ApiError> {
    let mut tx = admin.database.begin().await?;
    let old = locked(&mut tx, &app, &id).await?;
    preconditions.check(Some(&old))?;
    store::app_users::delete(&mut tx, app.id, old.id).await?;
    audit::append(&mut tx, Entry::new(&principal, "app_user.delete", old.id).on(app.id).before(&old)).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What came of ending sessions.
#[derive(Serialize, JsonSchema)]
pub(super) struct SessionsEnded {
    /// How many there were.
    count: u64,
}

pub(super) async fn end_sessions(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, id)): Path<(String, String)>,
) -> Result<JsonBody<SessionsEnded>, ApiError> {
    let mut tx = admin.database.begin().await?;
    let user = locked(&mut tx, &app, &id).await?;
    let count = store::app_user_sessions::end_all(&mut tx, app.id, user.id).await?;
    audit::append(&mut tx, Entry::new(&principal, "app_user.end_sessions", user.id).on(app.id)).await?;
    tx.commit().await?;
    Ok(JsonBody(SessionsEnded { count }))
}

async fn locked(conn: &mut PgConnection, app: &App, id: &str) -> Result<AppUser, ApiError> {
    store::app_users::locked(conn, app.id, parse(id)?).await?.ok_or_else(no_user)
}

/// What is no id is nobody's.
fn parse(id: &str) -> Result<AppUserId, ApiError> {
    id.parse().map_err(|_| no_user())
}

fn no_user() -> ApiError {
    ApiError::not_found("the app has no such user")
}
