//! The vault: what must not be read from a stolen database or backup is sealed here.
//!
//! The master key, which is elsewhere, wraps one data key for each app; the data key seals the app's
//! secrets. Any table may hold sealed bytes: it asks [`Vault::seal`] before it writes and
//! [`Vault::unseal_row`] after it reads them and their key in one statement, and names the place, which is
//! sealed in with the value. So that a change of the app's key reaches it, the table is listed in [`rotate`].
//!
//! No data key is kept in memory: one that was changed opens nothing any more, on no node.

mod master;
mod rotate;
mod sealed;

use std::sync::Arc;

use arc_swap::ArcSwap;
use shared::id::AppId;
use sqlx::postgres::PgConnection;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use self::master::ID_BYTES;
pub use self::master::{InvalidKey, KeyKeeper, MasterKey, MasterKeys};
pub(crate) use self::rotate::RotateError;
use self::sealed::Key;
pub(crate) use self::sealed::{Place, SEALED_BYTES_MIN};
use crate::store;
use crate::store::app_keys::WrappedKey;

/// Where a wrapped data key belongs.
const KEYS_TABLE: &str = "app_keys";
/// Most master keys that are known beside the current one. What was read before so many changes of it is older than
/// any statement takes.
const OTHERS_MAX: usize = 8;

/// Something could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VaultError {
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    #[error("the system has no source of chance")]
    NoEntropy(#[from] getrandom::Error),
    #[error("a sealed value cannot be opened: it was changed, moved, or its key is gone")]
    Unopenable,
    #[error(
        "the database has keys under another secret key than this server's, so an app gets no first key: start this \
         server with the new secret key, or finish the change of it by `pic secrets rotate-master`"
    )]
    OtherMaster,
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

/// The master key and those beside it: while the database changes over, several are needed.
#[derive(Debug)]
struct Masters {
    current: MasterKey,
    /// Those that came before and, after a change that failed, the one that did not come. The newest is first.
    others: Vec<MasterKey>,
    /// The one of these that the keeper has beside its own. Until it has taken that one's place, the database may need
    /// either, so no other may be staged.
    staged: Option<MasterKey>,
}

impl Masters {
    /// What a process finds at its start, when these keys are used in the database.
    fn found(current: MasterKey, staged: Option<MasterKey>, used: &[[u8; ID_BYTES]]) -> Option<Self> {
        let is_used = |key: &MasterKey| used.contains(&key.id());
        let masters = match staged {
            // The process ended between the change of the database and that of the file.
            Some(new) if is_used(&new) => {
                Self { current: new.clone(), others: vec![current], staged: Some(new) }
            }
            staged => Self { current, others: staged.clone().into_iter().collect(), staged },
        };
        used.iter().all(|id| masters.by_id(*id).is_ok()).then_some(masters)
    }

    /// The same keys, of which this is the current one.
    fn under(&self, key: &MasterKey, staged: Option<MasterKey>) -> Self {
        let others = self.known().filter(|other| *other != key).take(OTHERS_MAX).cloned().collect();
        Self { current: key.clone(), others, staged }
    }

    fn known(&self) -> impl Iterator<Item = &MasterKey> {
        [&self.current].into_iter().chain(&self.others)
    }

    fn by_id(&self, id: [u8; ID_BYTES]) -> Result<&MasterKey, VaultError> {
        self.known().find(|key| key.id() == id).ok_or(VaultError::Unopenable)
    }
}

/// Seals and opens. Shared by everything that holds sealed bytes.
#[derive(Debug)]
pub(crate) struct Vault {
    masters: ArcSwap<Masters>,
    keeper: Option<Arc<dyn KeyKeeper>>,
    /// Held by who changes the master key, from the database to the keeper.
    changing: Mutex<()>,
}

impl Vault {
    /// Finds out which of the given keys is the database's.
    pub(crate) async fn open(
        conn: &mut PgConnection,
        keys: MasterKeys,
    ) -> sqlx::Result<Result<Self, WrongMasterKey>> {
        let MasterKeys { current, staged, keeper } = keys;
        let used = store::app_keys::masters(conn).await?;
        let Some(mut masters) = Masters::found(current, staged, &used) else {
            return Ok(Err(WrongMasterKey));
        };
        if used.len() > 1 {
            tracing::warn!("a change of the secret key was not finished: run `pic secrets rotate-master`");
        } else if masters.staged.as_ref() == Some(&masters.current) {
            match keeper.as_ref().map_or(Ok(()), |keeper| keeper.settle(&masters.current)) {
                Ok(()) => (masters.others, masters.staged) = (Vec::new(), None),
                Err(error) => {
                    tracing::warn!(%error, "the new secret key could not be put in the place of the old");
                }
            }
        }
        Ok(Ok(Self { masters: ArcSwap::from_pointee(masters), keeper, changing: Mutex::default() }))
    }

    /// Seals a value under the app's newest data key, which is made when there is none. The key stays
    /// until the caller's transaction ends, so what is written in it can be opened.
    pub(crate) async fn seal(
        &self,
        conn: &mut PgConnection,
        place: Place<'_>,
        plain: &[u8],
    ) -> Result<Vec<u8>, VaultError> {
        store::app_keys::keep(conn, place.app).await?;
        let (version, key) = self.newest(conn, place.app).await?;
        Ok(sealed::seal(&key, version, &place, plain)?)
    }

    /// Opens what [`Self::seal`] gave for this place, with the key that was read together with it.
    pub(crate) fn unseal_row(
        &self,
        place: Place<'_>,
        sealed: &[u8],
        key: &WrappedKey,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        Ok(sealed::open(&self.unwrap(place.app, key)?, &place, sealed)?)
    }

    /// The same for what is in no table. When the app's key was changed, it does not open any more.
    pub(crate) async fn unseal(
        &self,
        conn: &mut PgConnection,
        place: Place<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let version = sealed::version(sealed)?;
        let key = store::app_keys::version(conn, place.app, version).await?.ok_or(VaultError::Unopenable)?;
        self.unseal_row(place, sealed, &key)
    }

    async fn newest(&self, conn: &mut PgConnection, app: AppId) -> Result<(i32, Key), VaultError> {
        if let Some(wrapped) = store::app_keys::newest(conn, app).await? {
            return Ok((wrapped.version, self.unwrap(app, &wrapped)?));
        }
        // The master key is looked at behind this: it does not change until the transaction ends.
        store::app_keys::keep_master(conn).await?;
        let wrapped = wrap(&self.masters.load().current, app, 1, &fresh()?)?;
        store::app_keys::insert_first(conn, app, &wrapped).await?;
        // Another transaction may have been first.
        let wrapped = store::app_keys::newest(conn, app).await?.ok_or(VaultError::OtherMaster)?;
        Ok((wrapped.version, self.unwrap(app, &wrapped)?))
    }

    fn unwrap(&self, app: AppId, wrapped: &WrappedKey) -> Result<Key, VaultError> {
        unwrap(self.masters.load().by_id(wrapped.master)?, app, wrapped)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> [MasterKey; 3] {
        std::array::from_fn(|_| MasterKey::generate().unwrap())
    }

    #[test]
    fn what_is_used_decides_between_the_key_and_the_staged_one() {
        let [old, new, foreign] = keys();
        let found = |used: &[&MasterKey]| {
            let used: Vec<_> = used.iter().map(|key| key.id()).collect();
            Masters::found(old.clone(), Some(new.clone()), &used)
        };
        for (used, current) in
            [(vec![], &old), (vec![&old], &old), (vec![&new], &new), (vec![&old, &new], &new)]
        {
            let masters = found(&used).unwrap();
            assert!(masters.current == *current && masters.staged.as_ref() == Some(&new), "{used:?}");
            assert!(masters.by_id(old.id()).is_ok() && masters.by_id(new.id()).is_ok(), "{used:?}");
        }
        assert!(found(&[&foreign]).is_none() && found(&[&old, &foreign]).is_none());
    }

    #[test]
    fn a_key_that_became_or_did_not_become_the_current_one_is_known_with_those_before() {
        let [first, second, third] = keys();
        let masters = Masters { current: first.clone(), others: Vec::new(), staged: None };
        let changed = masters.under(&second, None).under(&third, None);
        assert!(changed.current == third && changed.others == [second.clone(), first.clone()]);
        let taken_back = changed.under(&second, Some(third.clone()));
        assert!(taken_back.current == second && taken_back.others == [third, first]);
        // The same key again is no change.
        assert!(taken_back.under(&second, None).others == taken_back.others);
    }

    #[test]
    fn only_the_newest_keys_are_known() {
        let first = MasterKey::generate().unwrap();
        let mut masters = Masters { current: first.clone(), others: Vec::new(), staged: None };
        for _ in 0..=OTHERS_MAX {
            masters = masters.under(&MasterKey::generate().unwrap(), None);
        }
        assert_eq!(masters.others.len(), OTHERS_MAX);
        assert!(masters.by_id(first.id()).is_err());
    }
}
