//! Logging in and out.

use std::sync::Arc;

use axum::Extension;
use axum::Json as JsonBody;
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use shared::fault::Code;
use shared::http::ClientAddress;
use shared::id::AppId;

use super::Admin;
use super::problem::ApiError;
use super::read::Json;
use crate::auth::{Credential, Login, LoginError, NoEntropy, Passport, Principal, Scope};
use crate::store::users::User;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LoginBody {
    username: String,
    password: String,
}

#[derive(Serialize)]
pub(super) struct LoggedIn {
    token: String,
    expires_at: DateTime<Utc>,
    user: User,
}

pub(super) async fn login(
    State(admin): State<Arc<Admin>>,
    address: Option<Extension<ClientAddress>>,
    Json(body): Json<LoginBody>,
) -> Result<JsonBody<LoggedIn>, ApiError> {
    let address = address.map(|Extension(ClientAddress(address))| address);
    let login = Login { username: body.username, password: body.password, address };
    let Passport { token, expires_at, user } = admin.auth.login(login).await?;
    tracing::info!(user.id = %user.id, client.address = ?address, "logged in");
    Ok(JsonBody(LoggedIn { token, expires_at, user }))
}

/// Who the caller is, and by what.
#[derive(Serialize)]
pub(super) struct Me {
    #[serde(flatten)]
    user: User,
    credential: &'static str,
    /// Of an API key; a session is not narrowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<Scope>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_id: Option<AppId>,
}

pub(super) async fn me(principal: Principal) -> JsonBody<Me> {
    let (credential, scopes, app_id) = match principal.credential {
        Credential::Session(_) => ("session", None, None),
        Credential::Key(key) => ("api_key", Some(key.scopes), key.app),
    };
    JsonBody(Me { user: principal.user, credential, scopes, app_id })
}

pub(super) async fn logout(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
) -> Result<StatusCode, ApiError> {
    if let Credential::Session(session) = principal.credential {
        admin.auth.logout(session).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

impl From<NoEntropy> for ApiError {
    fn from(error: NoEntropy) -> Self {
        tracing::error!(%error, "no token could be made");
        Self::new(Code::Internal, "the platform failed")
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        let detail = error.to_string();
        match error {
            LoginError::Wrong => Self::new(Code::Unauthenticated, detail),
            LoginError::Throttled { retry_after_s } => {
                Self::new(Code::TooManyRequests, detail).retry_after(retry_after_s)
            }
            LoginError::Busy => Self::new(Code::TooManyRequests, detail).retry_after(1),
            LoginError::NoEntropy(error) => error.into(),
            LoginError::Database(error) => error.into(),
        }
    }
}
