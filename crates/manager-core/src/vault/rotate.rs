//! New keys in the place of old ones, while everything goes on.

use std::io;
use std::sync::Arc;

use shared::id::AppId;
use sqlx::postgres::PgConnection;

use super::{MasterKey, Masters, Place, Vault, VaultError, fresh, unwrap, wrap};
use crate::store::{self, Database};

/// A key could not be changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotateError {
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error("the secret key cannot be kept: {0}")]
    Keeper(#[source] io::Error),
    /// The key comes from the environment, and only its owner can put another there.
    #[error(
        "the secret key is set by PICLOUD_SECRET_KEY: give the new one, and set it before the next start"
    )]
    NoKeeper,
}

impl From<sqlx::Error> for RotateError {
    fn from(error: sqlx::Error) -> Self {
        Self::Vault(error.into())
    }
}

impl Vault {
    /// Wraps every data key with another master key; a new one unless it is given. Answers how many
    /// there were. The keeper has the new key before the database needs it, and the old one as long
    /// as the database may.
    pub(crate) async fn rotate_master(
        &self,
        database: &Database,
        given: Option<MasterKey>,
    ) -> Result<u64, RotateError> {
        let new = match (given, &self.keeper) {
            (Some(_), Some(_)) | (None, None) => return Err(RotateError::NoKeeper),
            (Some(given), None) => given,
            (None, Some(_)) => MasterKey::generate().map_err(VaultError::from)?,
        };
        let mut tx = database.begin().await?;
        store::app_keys::lock_master(&mut tx).await?;
        let old = self.master.load().current.clone();
        let mut count = 0;
        for (app, wrapped) in store::app_keys::all(&mut tx).await? {
            let key = unwrap(&old, app, &wrapped)?;
            let wrapped = wrap(&new, app, wrapped.version, &key)?;
            store::app_keys::replace(&mut tx, app, &wrapped).await?;
            count += 1;
        }
        if let Some(keeper) = &self.keeper {
            keeper.stage(&new).map_err(RotateError::Keeper)?;
        }
        // Before the commit, which lets those go on who wrap new data keys.
        self.master.store(Arc::new(Masters { current: new.clone(), other: Some(old.clone()) }));
        if let Err(error) = tx.commit().await {
            self.master.store(Arc::new(Masters { current: old, other: Some(new) }));
            return Err(error.into());
        }
        if let Some(keeper) = &self.keeper {
            keeper.settle().map_err(RotateError::Keeper)?;
        }
        Ok(count)
    }

    /// Gives an app a new data key and seals all that it has anew, in the caller's transaction. The old
    /// key is then gone. Answers how many values there were.
    pub(crate) async fn rotate_data_key(
        &self,
        conn: &mut PgConnection,
        app: AppId,
    ) -> Result<u64, VaultError> {
        // Whoever seals holds the newest key's row until it has committed; so this waits for them.
        store::app_keys::lock(conn, app).await?;
        let (version, _) = self.newest(conn, app).await?;
        store::app_keys::keep_master(conn).await?;
        let wrapped = wrap(&self.master.load().current, app, version + 1, &fresh()?)?;
        store::app_keys::insert(conn, app, &wrapped).await?;
        let mut count = 0;
        for secret in store::secrets::sealed(conn, app).await? {
            let place = Place { app, table: store::secrets::TABLE, name: &secret.name };
            let plain = self.unseal(conn, place, &secret.sealed).await?;
            let sealed = self.seal(conn, place, &plain).await?;
            store::secrets::replace_sealed(conn, app, &secret.name, &sealed).await?;
            count += 1;
        }
        store::app_keys::delete_before(conn, app, version + 1).await?;
        // What was sealed with the old one and is nowhere here, such as a link, does not open any more.
        self.kept().retain(|(whose, version_kept), _| *whose != app || *version_kept > version);
        Ok(count)
    }
}
