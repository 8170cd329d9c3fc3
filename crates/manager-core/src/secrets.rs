//! The rules for secrets, whoever sets them.

use shared::id::AppId;
use shared::limits::{SECRET_BYTES_MAX, SECRETS_MAX};
use shared::name::SecretName;
use sqlx::postgres::PgConnection;

use crate::store;
use crate::vault::{Place, Vault, VaultError};

/// A secret could not be set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error("the app has {SECRETS_MAX} secrets, which is the most; remove one first")]
    TooMany,
    #[error("a secret has 1 to {SECRET_BYTES_MAX} bytes")]
    Length,
}

impl From<sqlx::Error> for PutError {
    fn from(error: sqlx::Error) -> Self {
        Self::Vault(error.into())
    }
}

/// Sets a secret in the caller's transaction; answers whether it is new.
pub(crate) async fn put(
    conn: &mut PgConnection,
    vault: &Vault,
    app: AppId,
    name: &SecretName,
    value: &str,
) -> Result<(store::secrets::Secret, bool), PutError> {
    check_length(value)?;
    let sealed = vault.seal(conn, place(app, name.as_str()), value.as_bytes()).await?;
    let (secret, is_new) = store::secrets::put(conn, app, name.as_str(), &sealed).await?;
    if is_new && store::secrets::count(conn, app).await? > SECRETS_MAX {
        return Err(PutError::TooMany);
    }
    Ok((secret, is_new))
}

/// Whether it can be a secret at all.
pub(crate) fn check_length(value: &str) -> Result<(), PutError> {
    if (1..=SECRET_BYTES_MAX).contains(&value.len()) {
        return Ok(());
    }
    Err(PutError::Length)
}

/// Those of the names that the app has no secret of.
pub(crate) async fn missing(
    conn: &mut PgConnection,
    app: AppId,
    wanted: &[SecretName],
) -> sqlx::Result<Vec<SecretName>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let names = store::secrets::names(conn, app).await?;
    let is_missing = |name: &&SecretName| !names.iter().any(|known| known == name.as_str());
    Ok(wanted.iter().filter(is_missing).cloned().collect())
}

/// Where a secret is sealed.
pub(crate) fn place(app: AppId, name: &str) -> Place<'_> {
    Place { app, table: store::secrets::TABLE, name }
}
