//! Secrets of an app: set, named, removed, sealed anew; never read back.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::fault::Code;
use shared::name::SecretName;
use tracing::Instrument;
use zeroize::Zeroizing;

use super::page::{Items, PageParams};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::{Admin, access};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::secrets::{self, PutError};
use crate::store;
use crate::store::apps::App;
use crate::store::secrets::Secret;
use crate::vault::{MasterKey, RotateError, VaultError};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretValue {
    /// 1 to 32,768 bytes of text.
    value: String,
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<Secret>>, ApiError> {
    let page = params.page::<SecretName>()?;
    let mut conn = admin.database.acquire().await?;
    let after = page.after.as_ref().map(SecretName::as_str);
    let rows = store::secrets::page(&mut conn, app.id, after, page.rows()).await?;
    Ok(JsonBody(page.items(rows, |secret| secret.name.clone())))
}

pub(super) async fn put(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, name)): Path<(String, String)>,
    Json(body): Json<SecretValue>,
) -> Result<(StatusCode, JsonBody<Secret>), ApiError> {
    let name = parse(&name)?;
    let value = Zeroizing::new(body.value);
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let (secret, is_new) = secrets::put(&mut tx, &admin.vault, app.id, &name, &value).await?;
    // Without a digest: one of a short value would give it away.
    audit::append(&mut tx, Entry::new(&principal, "secret.set", name.as_str()).on(app.id)).await?;
    tx.commit().await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, JsonBody(secret)))
}

pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let name = parse(&name)?;
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    if !store::secrets::delete(&mut tx, app.id, name.as_str()).await? {
        return Err(ApiError::not_found(format!("the app has no secret {name}")));
    }
    audit::append(&mut tx, Entry::new(&principal, "secret.delete", name.as_str()).on(app.id)).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a change of a key has gone through.
#[derive(Serialize, JsonSchema)]
pub(super) struct Rotated {
    /// What was sealed anew.
    count: u64,
}

/// Seals all that the app has with a new key.
pub(super) async fn rotate(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
) -> Result<JsonBody<Rotated>, ApiError> {
    let mut tx = admin.database.begin().await?;
    access::lock(&mut tx, &app).await?;
    let count = admin.vault.rotate_data_key(&mut tx, app.id).await?;
    audit::append(&mut tx, Entry::new(&principal, "secrets.rotate_key", app.slug.as_str()).on(app.id))
        .await?;
    tx.commit().await?;
    Ok(JsonBody(Rotated { count }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMasterKey {
    /// 32 bytes in base64, where `PICLOUD_SECRET_KEY` sets the key; absent where the server keeps it.
    key: Option<String>,
}

/// Wraps the keys of all apps with another master key.
pub(super) async fn rotate_master(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Json(body): Json<NewMasterKey>,
) -> Result<JsonBody<Rotated>, ApiError> {
    let key = body.key.map(Zeroizing::new).map(|text| MasterKey::from_base64(&text)).transpose();
    let key = key.map_err(|error| ApiError::invalid(error.to_string()).with("field", "key"))?;
    let work = async move {
        let count = admin.vault.rotate_master(&admin.database, key).await?;
        let mut tx = admin.database.begin().await?;
        audit::append(&mut tx, Entry::new(&principal, "secrets.rotate_master", "instance")).await?;
        tx.commit().await?;
        Ok::<_, ApiError>(JsonBody(Rotated { count }))
    };
    // On its own: a client that leaves must not end it between the database and the place where the key is kept.
    tokio::spawn(work.in_current_span()).await.map_err(|error| {
        tracing::error!(%error, "a change of the secret key failed");
        ApiError::new(Code::Internal, "the platform failed")
    })?
}

fn parse(name: &str) -> Result<SecretName, ApiError> {
    name.parse().map_err(|error| ApiError::invalid(format!("name: {error}")).with("field", "name"))
}

impl From<VaultError> for ApiError {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Database(error) => error.into(),
            VaultError::OtherMaster => {
                tracing::error!(%error, "an app's first key was not made");
                Self::new(Code::Unavailable, error.to_string())
            }
            VaultError::NoEntropy(_) | VaultError::Unopenable => {
                tracing::error!(%error, "the vault failed");
                Self::new(Code::Internal, "the vault failed; the server's log says how")
            }
        }
    }
}

impl From<PutError> for ApiError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Vault(error) => error.into(),
            PutError::TooMany => Self::new(Code::Conflict, error.to_string()),
            PutError::Length => Self::invalid(error.to_string()).with("field", "value"),
        }
    }
}

impl From<RotateError> for ApiError {
    fn from(error: RotateError) -> Self {
        match error {
            RotateError::Vault(error) => error.into(),
            RotateError::NoKeeper => Self::invalid(error.to_string()).with("field", "key"),
            RotateError::Keeper(_) => {
                tracing::error!(%error, "the secret key cannot be kept");
                Self::new(Code::Internal, "the new key cannot be kept; the server's log says why")
            }
        }
    }
}
