//! Members of an app. Its owner is always one of them and always an admin of the app, so an app is
//! never left without anybody who may administer it.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::fault::Code;
use shared::id::UserId;
use shared::name::Username;
use sqlx::postgres::PgConnection;

use super::page::{Items, PageParams};
use super::precondition::{Preconditions, Resource, Tagged};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::{Admin, access};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::store;
use crate::store::apps::App;
use crate::store::members::{AppRole, Member};
use crate::store::users::{Person, User};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMember {
    /// A user's name or id.
    user: String,
    role: AppRole,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberPatch {
    role: AppRole,
}

impl Resource for Member {
    fn state(&self) -> &impl Serialize {
        self
    }
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<Member>>, ApiError> {
    let page = params.page::<String>()?;
    let mut conn = admin.database.acquire().await?;
    let rows = store::members::page(&mut conn, app.id, page.after.as_deref(), page.rows()).await?;
    Ok(JsonBody(page.items(rows, |member| member.username.to_string())))
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    app: App,
    Path((_, key)): Path<(String, String)>,
) -> Result<Tagged<Member>, ApiError> {
    let mut conn = admin.database.acquire().await?;
    named(&mut conn, &app, &key).await.map(Tagged)
}

pub(super) async fn add(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Json(body): Json<NewMember>,
) -> Result<(StatusCode, Tagged<Member>), ApiError> {
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let user = user(&mut tx, &body.user).await?;
    let by = principal.user.id;
    store::members::add(&mut tx, app.id, user.id, body.role, by).await.map_err(|error| {
        if !store::violates(&error, store::members::MEMBER_KEY) {
            return error.into();
        }
        let detail = format!("{} is a member already; PATCH changes the role", user.username);
        ApiError::new(Code::Conflict, detail).with("field", "user")
    })?;
    let member = find(&mut tx, &app, user.id).await?;
    let entry = Entry::new(&principal, "member.add", &member.username).on(app.id).after(&member);
    audit::append(&mut tx, entry).await?;
    // What triggers may do follows what the people behind them may.
    admin.snapshot.publish(tx).await?;
    Ok((StatusCode::CREATED, Tagged(member)))
}

pub(super) async fn update(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, key)): Path<(String, String)>,
    preconditions: Preconditions,
    Json(body): Json<MemberPatch>,
) -> Result<Tagged<Member>, ApiError> {
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let old = named(&mut tx, &app, &key).await?;
    preconditions.check(Some(&old))?;
    if body.role != AppRole::AppAdmin {
        refuse_owner(&old)?;
    }
    store::members::set_role(&mut tx, app.id, old.user_id, body.role).await?;
    let member = find(&mut tx, &app, old.user_id).await?;
    let entry = Entry::new(&principal, "member.update", &member.username);
    audit::append(&mut tx, entry.on(app.id).before(&old).after(&member)).await?;
    // What triggers may do follows what the people behind them may.
    admin.snapshot.publish(tx).await?;
    Ok(Tagged(member))
}

pub(super) async fn remove(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, key)): Path<(String, String)>,
    preconditions: Preconditions,
) -> Result<StatusCode, ApiError> {
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let old = named(&mut tx, &app, &key).await?;
    preconditions.check(Some(&old))?;
    refuse_owner(&old)?;
    store::members::remove(&mut tx, app.id, old.user_id).await?;
    let entry = Entry::new(&principal, "member.remove", &old.username).on(app.id).before(&old);
    audit::append(&mut tx, entry).await?;
    // What triggers may do follows what the people behind them may.
    admin.snapshot.publish(tx).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The person of this name or id, who can take part.
pub(super) async fn user(conn: &mut PgConnection, key: &str) -> Result<User, ApiError> {
    let enabled = |person: &Person| person.disabled_at.is_none();
    let person = person(conn, key).await?.filter(enabled).ok_or_else(|| {
        let shown: String = key.chars().take(80).collect();
        ApiError::invalid(format!("there is no user {shown:?} who can log in")).with("field", "user")
    })?;
    Ok(person.user)
}

/// The person of this name or id.
pub(super) async fn person(conn: &mut PgConnection, key: &str) -> Result<Option<Person>, ApiError> {
    if let Ok(id) = key.parse::<UserId>() {
        return Ok(store::users::by_id(conn, id).await?);
    }
    // What cannot be a name is nobody's.
    let Ok(name) = key.parse::<Username>() else { return Ok(None) };
    Ok(store::users::by_name(conn, &name).await?)
}

async fn named(conn: &mut PgConnection, app: &App, key: &str) -> Result<Member, ApiError> {
    let person = person(conn, key).await?.ok_or_else(no_member)?;
    find(conn, app, person.user.id).await
}

async fn find(conn: &mut PgConnection, app: &App, user: UserId) -> Result<Member, ApiError> {
    store::members::member(conn, app.id, user).await?.ok_or_else(no_member)
}

fn no_member() -> ApiError {
    ApiError::not_found("the app has no such member")
}

fn refuse_owner(member: &Member) -> Result<(), ApiError> {
    if !member.is_owner {
        return Ok(());
    }
    let detail = format!(
        "{} owns the app and stays an app_admin; make somebody else the owner first with POST \
         /apps/{{app}}:transfer",
        member.username
    );
    Err(ApiError::new(Code::Conflict, detail))
}
