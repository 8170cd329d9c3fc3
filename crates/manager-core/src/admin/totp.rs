//! The caller's second factor: enrol with the password, confirm with a first code, remove with the
//! password. From the confirmation on, a login asks for a code.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use shared::fault::Code;

use super::Admin;
use super::idempotency::Once;
use super::problem::ApiError;
use super::read::Json;
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::auth::second_factor::{self, EnrolError};
use crate::store;
use crate::store::second_factors::Status;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reauthentication {
    #[schemars(with = "String")]
    password: SecretString,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FirstCode {
    code: String,
}

/// Shown once.
#[derive(Serialize, JsonSchema)]
pub(super) struct EnrolledOnce {
    secret: String,
    url: String,
}

/// Shown once.
#[derive(Serialize, JsonSchema)]
pub(super) struct RecoveryOnce {
    recovery_codes: Vec<String>,
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
) -> Result<JsonBody<Status>, ApiError> {
    let mut conn = admin.database.acquire().await?;
    Ok(JsonBody(store::second_factors::status(&mut conn, principal.user.id).await?))
}

pub(super) async fn enrol(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Json(body): Json<Reauthentication>,
) -> Result<Once<EnrolledOnce>, ApiError> {
    require_password(&admin, &principal, body.password).await?;
    let enrolment = second_factor::enrol(&principal.user.username)?;
    let mut tx = admin.database.begin().await?;
    if !store::second_factors::begin(&mut tx, principal.user.id, enrolment.secret).await? {
        let detail = "there is a second factor already; remove it first with POST /auth/totp:remove";
        return Err(ApiError::new(Code::Conflict, detail));
    }
    tx.commit().await?;
    Ok(Once(EnrolledOnce { secret: enrolment.text, url: enrolment.url }))
}

pub(super) async fn confirm(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Json(body): Json<FirstCode>,
) -> Result<Once<RecoveryOnce>, ApiError> {
    let user = &principal.user;
    let mut tx = admin.database.begin().await?;
    let Some(factor) = store::second_factors::unconfirmed(&mut tx, user.id).await? else {
        return Err(ApiError::new(
            Code::Conflict,
            "no enrolment waits for its code; begin with POST /auth/totp",
        ));
    };
    let Some(step) = second_factor::step_of(factor.secret, &user.username, &body.code) else {
        let detail = "the code is wrong; check that the clock of the phone is right";
        return Err(ApiError::invalid(detail).with("field", "code"));
    };
    let codes = second_factor::recovery_codes()?;
    let (recovery_codes, hashes): (Vec<_>, Vec<_>) = codes.into_iter().unzip();
    store::second_factors::confirm(&mut tx, user.id, step, &hashes).await?;
    audit::append(&mut tx, Entry::new(&principal, "totp.enable", &user.username)).await?;
    tx.commit().await?;
    Ok(Once(RecoveryOnce { recovery_codes }))
}

pub(super) async fn remove(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Json(body): Json<Reauthentication>,
) -> Result<StatusCode, ApiError> {
    require_password(&admin, &principal, body.password).await?;
    let mut tx = admin.database.begin().await?;
    store::second_factors::remove(&mut tx, principal.user.id).await?;
    audit::append(&mut tx, Entry::new(&principal, "totp.disable", &principal.user.username)).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who finds an open laptop does not know the password.
async fn require_password(
    admin: &Admin,
    principal: &Principal,
    password: SecretString,
) -> Result<(), ApiError> {
    if admin.auth.knows_password(&principal.user, password, principal.origin.address).await? {
        return Ok(());
    }
    Err(ApiError::invalid("the password is wrong").with("field", "password"))
}

impl From<EnrolError> for ApiError {
    fn from(error: EnrolError) -> Self {
        tracing::error!(%error, "a second factor could not be made");
        Self::new(Code::Internal, "the platform failed")
    }
}
