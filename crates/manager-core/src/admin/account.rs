//! The caller's own account: password and sessions.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use http::StatusCode;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use shared::fault::Code;
use shared::id::SessionId;

use super::Admin;
use super::page::{Items, PageParams};
use super::problem::ApiError;
use super::read::{Json, Params};
use crate::audit::{self, Entry};
use crate::auth::{Credential, Principal};
use crate::store;
use crate::store::sessions::Session;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPassword {
    /// The one that is to be replaced: who finds an open laptop does not know it.
    #[schemars(with = "String")]
    current: SecretString,
    #[schemars(with = "String", length(min = 8, max = 1_024))]
    new: SecretString,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeParams {
    /// Leave the session that asks alive.
    #[serde(default)]
    keep_current: bool,
}

/// A session of the caller.
#[derive(Serialize, JsonSchema)]
pub(super) struct SessionView {
    #[serde(flatten)]
    session: Session,
    /// The one that asks.
    is_current: bool,
}

/// Ends every other session: whoever knew the old password is out.
pub(super) async fn change_password(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Json(body): Json<NewPassword>,
) -> Result<StatusCode, ApiError> {
    let origin = &principal.origin;
    let is_right = admin.auth.knows_password(&principal.user, body.current, origin.address).await?;
    if !is_right {
        let detail = "the current password is wrong";
        return Err(ApiError::new(Code::InvalidInput, detail).with("field", "current"));
    }
    let hash = admin.auth.hash_new_password(body.new, &principal.user.username).await?;
    let mut tx = admin.database.begin().await?;
    store::users::set_password_hash(&mut tx, principal.user.id, &hash).await?;
    store::sessions::end_all(&mut tx, principal.user.id, session_of(&principal)).await?;
    audit::append(&mut tx, Entry::new(&principal, "user.change_password", &principal.user.username)).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn sessions(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<SessionView>>, ApiError> {
    let page = params.page::<SessionId>()?;
    let current = session_of(&principal);
    let mut conn = admin.database.acquire().await?;
    let rows = store::sessions::page(&mut conn, principal.user.id, page.after, page.rows()).await?;
    let items = page.items(rows, |session| session.id.to_string());
    Ok(JsonBody(items.map(|session| SessionView { is_current: Some(session.id) == current, session })))
}

pub(super) async fn revoke(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let missing = || ApiError::not_found("you have no such session");
    let id: SessionId = id.parse().map_err(|_| missing())?;
    let mut tx = admin.database.begin().await?;
    if !store::sessions::end_of(&mut tx, principal.user.id, id).await? {
        return Err(missing());
    }
    audit::append(&mut tx, Entry::new(&principal, "session.revoke", id)).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn revoke_all(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Params(params): Params<RevokeParams>,
) -> Result<StatusCode, ApiError> {
    let kept = if params.keep_current { session_of(&principal) } else { None };
    let mut tx = admin.database.begin().await?;
    store::sessions::end_all(&mut tx, principal.user.id, kept).await?;
    audit::append(&mut tx, Entry::new(&principal, "session.revoke_all", &principal.user.username)).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn session_of(principal: &Principal) -> Option<SessionId> {
    match principal.credential {
        Credential::Session(session) => Some(session),
        Credential::Key(_) => None,
    }
}
