//! The vault: what must not be read from a stolen database or backup is sealed here.
//!
//! The master key, which is elsewhere, wraps one data key for each app; the data key seals the app's
//! secrets. Any table may hold sealed bytes: it asks [`Vault::seal`] before it writes and
//! [`Vault::unseal`] after it reads, and names the place, which is sealed in with the value. So that a
//! change of the app's key reaches it, the table is listed in [`rotate`].

mod master;
mod rotate;
mod sealed;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use shared::id::AppId;
use sqlx::postgres::PgConnection;
use zeroize::Zeroizing;

use self::master::ID_BYTES;
pub use self::master::{InvalidKey, KeyKeeper, MasterKey, MasterKeys};
pub(crate) use self::rotate::RotateError;
use self::sealed::Key;
pub(crate) use self::sealed::Place;
use crate::store;
use crate::store::app_keys::WrappedKey;

/// Where a wrapped data key belongs.
const KEYS_TABLE: &str = "app_keys";
/// Most data keys in memory, 40 bytes each: apps beyond that are read again.
const KEPT_MAX: usize = 10_000;

/// Something could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VaultError {
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    #[error("the system has no source of chance")]
    NoEntropy(#[from] getrandom::Error),
    #[error("a sealed value cannot be opened: it was changed, moved, or its key is gone")]
    Unopenable,
}

/// The configured master key is not the one that the database was sealed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the secret key is not the one that this database was sealed with: set PICLOUD_SECRET_KEY to that, or put \
     the file secret-key back into the data directory"
)]
pub struct WrongMasterKey;

impl From<sealed::Unopenable> for VaultError {
    fn from(_: sealed::Unopenable) -> Self {
        Self::Unopenable
    }
}

/// The master key, and the one that came before: while the database changes over, both are needed.
#[derive(Debug)]
struct Masters {
    current: MasterKey,
    other: Option<MasterKey>,
}

impl Masters {
    fn by_id(&self, id: [u8; ID_BYTES]) -> Result<&MasterKey, VaultError> {
        let mut known = [&self.current].into_iter().chain(&self.other);
        known.find(|key| key.id() == id).ok_or(VaultError::Unopenable)
    }
}

/// Seals and opens. Shared by everything that holds sealed bytes.
#[derive(Debug)]
pub(crate) struct Vault {
    master: ArcSwap<Masters>,
    keeper: Option<Arc<dyn KeyKeeper>>,
    /// Data keys that were read from the database, by app and version.
    keys: Mutex<HashMap<(AppId, i32), Arc<Key>>>,
}

impl Vault {
    /// Finds out which of the given keys is the database's.
    pub(crate) async fn open(
        conn: &mut PgConnection,
        keys: MasterKeys,
    ) -> sqlx::Result<Result<Self, WrongMasterKey>> {
        let MasterKeys { mut current, staged, keeper } = keys;
        let used = store::app_keys::masters(conn).await?;
        let opens = |key: &MasterKey| used.iter().all(|id| *id == key.id());
        if let Some(staged) = staged.filter(|staged| !used.is_empty() && opens(staged)) {
            // The process ended between the change of the database and that of the file.
            current = staged;
            if let Some(Err(error)) = keeper.as_ref().map(|keeper| keeper.settle()) {
                tracing::warn!(%error, "the new secret key could not be put in the place of the old");
            }
        }
        if !opens(&current) {
            return Ok(Err(WrongMasterKey));
        }
        let master = ArcSwap::from_pointee(Masters { current, other: None });
        Ok(Ok(Self { master, keeper, keys: Mutex::default() }))
    }

    /// Seals a value under the app's newest data key, which is made when there is none. The key stays
    /// until the caller's transaction ends, so what is written in it can be opened.
    pub(crate) async fn seal(
        &self,
        conn: &mut PgConnection,
        place: Place<'_>,
        plain: &[u8],
    ) -> Result<Vec<u8>, VaultError> {
        let (version, key) = self.newest(conn, place.app).await?;
        Ok(sealed::seal(&key, version, &place, plain)?)
    }

    /// Opens what [`Self::seal`] gave for this place.
    pub(crate) async fn unseal(
        &self,
        conn: &mut PgConnection,
        place: Place<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let version = sealed::version(sealed)?;
        let key = self.key(conn, place.app, version).await?;
        Ok(sealed::open(&key, &place, sealed)?)
    }

    async fn newest(&self, conn: &mut PgConnection, app: AppId) -> Result<(i32, Key), VaultError> {
        if let Some(wrapped) = store::app_keys::newest(conn, app).await? {
            return Ok((wrapped.version, self.unwrap(app, &wrapped)?));
        }
        // The master key is looked at behind this: it does not change until the transaction ends.
        store::app_keys::keep_master(conn).await?;
        let wrapped = wrap(&self.master.load().current, app, 1, &fresh()?)?;
        store::app_keys::insert_first(conn, app, &wrapped).await?;
        // Another transaction may have been first, or have changed the key just now.
        let wrapped = store::app_keys::newest(conn, app).await?.ok_or(VaultError::Unopenable)?;
        Ok((wrapped.version, self.unwrap(app, &wrapped)?))
    }

    fn unwrap(&self, app: AppId, wrapped: &WrappedKey) -> Result<Key, VaultError> {
        unwrap(self.master.load().by_id(wrapped.master)?, app, wrapped)
    }

    async fn key(&self, conn: &mut PgConnection, app: AppId, version: i32) -> Result<Arc<Key>, VaultError> {
        if let Some(key) = self.kept().get(&(app, version)) {
            return Ok(Arc::clone(key));
        }
        let wrapped = store::app_keys::version(conn, app, version).await?.ok_or(VaultError::Unopenable)?;
        let key = Arc::new(self.unwrap(app, &wrapped)?);
        let mut kept = self.kept();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert((app, version), Arc::clone(&key));
        Ok(key)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<(AppId, i32), Arc<Key>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fresh() -> Result<Key, VaultError> {
    let mut key = Key::default();
    getrandom::fill(&mut *key)?;
    Ok(key)
}

fn wrap(master: &MasterKey, app: AppId, version: i32, key: &Key) -> Result<WrappedKey, VaultError> {
    let place = key_place(app);
    let wrapped = sealed::seal(&Key::new(*master.bytes()), version, &place, &**key)?;
    Ok(WrappedKey { version, master: master.id(), wrapped })
}

fn unwrap(master: &MasterKey, app: AppId, wrapped: &WrappedKey) -> Result<Key, VaultError> {
    let opened = sealed::open(&Key::new(*master.bytes()), &key_place(app), &wrapped.wrapped)?;
    let key = opened.as_slice().try_into().map_err(|_| VaultError::Unopenable)?;
    Ok(Key::new(key))
}

fn key_place(app: AppId) -> Place<'static> {
    Place { app, table: KEYS_TABLE, name: "" }
}
