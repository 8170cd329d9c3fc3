//! Logging in and out.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use shared::fault::Code;
use shared::id::AppId;

use super::gate::Caller;
use super::problem::ApiError;
use super::read::Json;
use super::{Admin, cookie, rate};
use crate::audit::{self, Entry};
use crate::auth::{Credential, Login, LoginError, NoEntropy, Passport, Principal, Scope};
use crate::store;
use crate::store::users::User;

/// What is kept of a program's name for itself; enough to recognise a browser.
const USER_AGENT_CHARS_MAX: usize = 200;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LoginBody {
    username: String,
    #[schemars(with = "String")]
    password: SecretString,
    /// A code from the second factor of those who have one, or a recovery code.
    #[schemars(with = "Option<String>")]
    otp: Option<SecretString>,
    /// Answer with a cookie, for a dashboard in a browser, instead of a token.
    #[serde(default)]
    cookie: bool,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct LoggedIn {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    expires_at: DateTime<Utc>,
    user: User,
}

pub(super) async fn login(
    State(admin): State<Arc<Admin>>,
    Caller(origin): Caller,
    asked: HeaderMap,
    Json(body): Json<LoginBody>,
) -> Result<(HeaderMap, JsonBody<LoggedIn>), ApiError> {
    let user_agent = user_agent(&asked);
    let address = origin.address;
    let login = Login { username: body.username, password: body.password, otp: body.otp, origin, user_agent };
    let username = login.username.clone();
    let attempt = admin.auth.login(login).await;
    let mut headers = rate::headers(&admin.auth.quotas(&username, address));
    let Passport { token, expires_at, user } =
        attempt.map_err(|error| ApiError::from(error).with_headers(headers.clone()))?;
    tracing::info!(user.id = %user.id, client.address = ?address, "logged in");
    if body.cookie {
        // The token is in the cookie alone, where no page's script can read it.
        headers.insert(header::SET_COOKIE, cookie::given(token.expose_secret(), expires_at));
        return Ok((headers, JsonBody(LoggedIn { token: None, expires_at, user })));
    }
    Ok((headers, JsonBody(LoggedIn { token: Some(token.expose_secret().to_owned()), expires_at, user })))
}

/// What the caller's program calls itself, as far as it is kept.
pub(super) fn user_agent(headers: &HeaderMap) -> String {
    let text = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    text.unwrap_or_default().chars().take(USER_AGENT_CHARS_MAX).collect()
}

/// Who the caller is, and by what.
#[derive(Serialize, JsonSchema)]
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
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1]), ApiError> {
    if let Credential::Session(session) = principal.credential {
        let mut tx = admin.database.begin().await?;
        store::sessions::end(&mut tx, session).await?;
        audit::append(&mut tx, Entry::new(&principal, "session.end", &principal.user.username)).await?;
        tx.commit().await?;
    }
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie::taken())]))
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
            LoginError::CodeMissing | LoginError::CodeWrong => Self::new(Code::SecondFactorRequired, detail),
            LoginError::Throttled { retry_after_s } => {
                Self::new(Code::TooManyRequests, detail).retry_after(retry_after_s)
            }
            LoginError::Busy => Self::new(Code::TooManyRequests, detail).retry_after(1),
            LoginError::NoEntropy(error) => error.into(),
            LoginError::Database(error) => error.into(),
        }
    }
}
