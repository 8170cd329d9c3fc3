//! New keys in the place of old ones, while everything goes on.

use std::io;
use std::sync::Arc;

use shared::id::AppId;
use sqlx::postgres::PgConnection;

use super::{MasterKey, Masters, Place, Vault, VaultError, fresh, sealed, unwrap, wrap};
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
    /// as the database may. A change that broke off is finished with the key that it had staged.
    pub(crate) async fn rotate_master(
        &self,
        database: &Database,
        given: Option<MasterKey>,
    ) -> Result<u64, RotateError> {
        // Another change begins when the keeper, too, has ended this one.
        let _changing = self.changing.lock().await;
        let before = self.masters.load_full();
        let new = self.successor(&before, given)?;
        // The old key is given up once this is committed.
        let mut tx = database.begin_durably().await?;
        store::app_keys::lock_master(&mut tx).await?;
        let mut count = 0;
        for (app, wrapped) in store::app_keys::all(&mut tx).await? {
            let key = unwrap(before.by_id(wrapped.master)?, app, &wrapped)?;
            let wrapped = wrap(&new, app, wrapped.version, &key)?;
            store::app_keys::replace(&mut tx, app, &wrapped).await?;
            count += 1;
        }
        if let (Some(keeper), None) = (&self.keeper, &before.staged) {
            keeper.stage(&new).map_err(RotateError::Keeper)?;
        }
        let staged = self.keeper.is_some().then(|| new.clone());
        // Before the commit, which lets those go on who wrap new data keys.
        self.masters.store(Arc::new(before.under(&new, staged)));
        if let Err(error) = tx.commit().await {
            self.look_after_commit(database, &before, &new, error).await?;
        }
        if let Some(keeper) = &self.keeper {
            keeper.settle(&new).map_err(RotateError::Keeper)?;
            self.masters.store(Arc::new(before.under(&new, None)));
        }
        Ok(count)
    }

    /// The key that comes next.
    fn successor(&self, before: &Masters, given: Option<MasterKey>) -> Result<MasterKey, RotateError> {
        match (given, &self.keeper) {
            (Some(_), Some(_)) | (None, None) => Err(RotateError::NoKeeper),
            (Some(given), None) => Ok(given),
            (None, Some(_)) => match &before.staged {
                Some(staged) => Ok(staged.clone()),
                None => MasterKey::generate().map_err(|error| VaultError::from(error).into()),
            },
        }
    }

    /// Finds out whether a commit was made whose answer was an error: what was lost may have been the answer alone.
    /// Where the database does not say, it is taken for one that was not made, and both keys are known. So it is while
    /// any data key is under another: that the new one is used at all may be from a change that broke off before, or
    /// from an app's first data key that waited for this one.
    async fn look_after_commit(
        &self,
        database: &Database,
        before: &Masters,
        new: &MasterKey,
        error: sqlx::Error,
    ) -> Result<(), RotateError> {
        let look = async {
            let mut tx = database.begin().await?;
            // Waits until the session with that commit has ended, and keeps others from wrapping keys meanwhile.
            store::app_keys::lock_master(&mut tx).await?;
            let used = store::app_keys::masters(&mut tx).await?;
            Ok::<_, sqlx::Error>((tx, used))
        };
        let seen = look.await;
        let is_made = seen
            .as_ref()
            .is_ok_and(|(_, used)| !used.is_empty() && used.iter().all(|master| *master == new.id()));
        if is_made {
            return Ok(());
        }
        let staged = self.keeper.is_some().then(|| new.clone());
        self.masters.store(Arc::new(before.under(new, None).under(&before.current, staged)));
        Err(error.into())
    }

    /// Gives an app a new data key and seals all that it has anew, in the caller's transaction. The old
    /// key is then gone, and with it what was sealed and is nowhere here, such as a link. Answers how many
    /// values there were.
    pub(crate) async fn rotate_data_key(
        &self,
        conn: &mut PgConnection,
        app: AppId,
    ) -> Result<u64, VaultError> {
        store::app_keys::lock(conn, app).await?;
        // Before rows of keys, as who changes the master key does it: else each could wait for the other. And before
        // the old key is opened, so that a node without the newest master key wraps no data key with one that is gone.
        store::app_keys::keep_master(conn).await?;
        let (old, _) = self.newest(conn, app).await?;
        let (version, key) = (old + 1, fresh()?);
        let wrapped = wrap(&self.masters.load().current, app, version, &key)?;
        store::app_keys::insert(conn, app, &wrapped).await?;
        let mut count = 0;
        for secret in store::secrets::sealed(conn, app).await? {
            let place = Place { app, table: store::secrets::TABLE, name: &secret.name };
            let plain = self.unseal_row(place, &secret.sealed, &secret.key)?;
            let sealed = sealed::seal(&key, version, &place, &plain)?;
            store::secrets::replace_sealed(conn, app, &secret.name, &sealed).await?;
            count += 1;
        }
        store::app_keys::delete_before(conn, app, version).await?;
        Ok(count)
    }
}
