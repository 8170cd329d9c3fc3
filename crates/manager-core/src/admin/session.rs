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

use super::Admin;
use super::problem::ApiError;
use super::read::Json;
use crate::auth::{Login, LoginError, Passport, Principal};
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

pub(super) async fn me(principal: Principal) -> JsonBody<User> {
    JsonBody(principal.user)
}

pub(super) async fn logout(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
) -> Result<StatusCode, ApiError> {
    admin.auth.logout(principal.session).await?;
    Ok(StatusCode::NO_CONTENT)
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
            LoginError::NoEntropy(error) => {
                tracing::error!(%error, "no token could be made");
                Self::new(Code::Internal, "the platform failed")
            }
            LoginError::Database(error) => error.into(),
        }
    }
}
