//! Invitations: a link with a token that is shown once and makes one account.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use http::StatusCode;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use shared::id::InvitationId;

use super::gate::Caller;
use super::idempotency::Once;
use super::page::{Items, PageParams};
use super::precondition::Tagged;
use super::problem::ApiError;
use super::read::{Json, Params};
use super::{Admin, access, users};
use crate::audit::{self, Actor, Entry};
use crate::auth::{Principal, generate_invitation, outranks, stored_invitation};
use crate::store;
use crate::store::invitations::{Invitation, NewInvitation};
use crate::store::users::{Person, Role};

const NOTE_CHARS_MAX: usize = 200;
/// Long enough for a holiday, short enough that a forgotten mail is worth nothing.
const DAYS_DEFAULT: i32 = 7;
const DAYS_MAX: i32 = 30;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewInvite {
    #[serde(default = "member")]
    role: Role,
    /// Whom it is for, in the caller's words.
    #[serde(default)]
    #[schemars(length(max = NOTE_CHARS_MAX))]
    note: String,
    #[schemars(range(min = 1, max = DAYS_MAX))]
    expires_in_days: Option<i32>,
}

fn member() -> Role {
    Role::Member
}

/// A new invitation: the only answer that ever shows its token.
#[derive(Serialize, JsonSchema)]
pub(super) struct InvitedOnce {
    #[serde(flatten)]
    invitation: Invitation,
    token: String,
    /// To be given to the new person. The token is behind the `#`, which browsers do not send, so
    /// that no proxy writes it into its log.
    url: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Acceptance {
    #[schemars(with = "String")]
    token: SecretString,
    #[schemars(with = "shared::name::Username")]
    username: String,
    #[schemars(with = "String", length(min = 8, max = 1_024))]
    password: SecretString,
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<Invitation>>, ApiError> {
    let page = params.page::<InvitationId>()?;
    let mut conn = admin.database.acquire().await?;
    let rows = store::invitations::page(&mut conn, page.after, page.rows()).await?;
    Ok(JsonBody(page.items(rows, |invitation| invitation.id.to_string())))
}

pub(super) async fn create(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Json(body): Json<NewInvite>,
) -> Result<(StatusCode, Once<InvitedOnce>), ApiError> {
    outranks(&principal, body.role).map_err(|denial| access::forbidden(&denial))?;
    if body.note.chars().count() > NOTE_CHARS_MAX || body.note.contains('\0') {
        let detail = format!("a note has at most {NOTE_CHARS_MAX} characters and no U+0000");
        return Err(ApiError::invalid(detail).with("field", "note"));
    }
    let days = body.expires_in_days.unwrap_or(DAYS_DEFAULT);
    if !(1..=DAYS_MAX).contains(&days) {
        let detail = format!("expires_in_days is {days}; it may be 1 to {DAYS_MAX}");
        return Err(ApiError::invalid(detail).with("field", "expires_in_days"));
    }
    let (token, token_hash) = generate_invitation()?;
    let mut tx = admin.database.begin().await?;
    store::invitations::forget_expired(&mut tx).await?;
    let (role, note, invited_by) = (body.role, body.note.as_str(), principal.user.id);
    let new = NewInvitation { token_hash, role, note, invited_by, days };
    let invitation = store::invitations::create(&mut tx, new).await?;
    let entry = Entry::new(&principal, "invitation.create", invitation.id).after(&invitation);
    audit::append(&mut tx, entry).await?;
    tx.commit().await?;
    let url = format!("{}/admin/invitation#{token}", admin.config.public_url);
    Ok((StatusCode::CREATED, Once(InvitedOnce { invitation, token, url })))
}

pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let missing = || ApiError::not_found("there is no such invitation");
    let id: InvitationId = id.parse().map_err(|_| missing())?;
    let mut tx = admin.database.begin().await?;
    let old = store::invitations::delete(&mut tx, id).await?.ok_or_else(missing)?;
    audit::append(&mut tx, Entry::new(&principal, "invitation.delete", old.id).before(&old)).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes the account. The token is looked at before the password is hashed, so that strangers
/// cannot make work.
pub(super) async fn accept(
    State(admin): State<Arc<Admin>>,
    Caller(origin): Caller,
    Json(body): Json<Acceptance>,
) -> Result<(StatusCode, Tagged<Person>), ApiError> {
    let missing = || ApiError::not_found("the invitation is unknown, over, or was accepted already");
    let username = users::username(&body.username)?;
    let token_hash = stored_invitation(body.token.expose_secret()).ok_or_else(missing)?;
    if !store::invitations::is_open(&mut *admin.database.acquire().await?, token_hash).await? {
        return Err(missing());
    }
    let hash = admin.auth.hash_new_password(body.password, &username).await?;
    let mut tx = admin.database.begin().await?;
    let invitation = store::invitations::take(&mut tx, token_hash).await?.ok_or_else(missing)?;
    let person = users::make(&mut tx, &username, Some(&hash), invitation.role).await?;
    let actor = Actor::person(&person.user, "invitation", &origin);
    let entry = Entry::new(actor, "invitation.accept", &username).before(&invitation).after(&person);
    audit::append(&mut tx, entry).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Tagged(person)))
}
