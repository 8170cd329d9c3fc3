//! Values by key.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use shared::call::{CallCode, CallError};
use shared::host_call::kv::{Condition, Incr, Key, List, Set, Sum};
use shared::json_scan;
use shared::limits::{
    HOST_REPLY_BYTES_MAX, KV_KEY_BYTES_MAX, KV_LIST_MAX, KV_TTL_MS_MAX, KV_VALUE_BYTES_MAX,
};
use sqlx::postgres::PgConnection;

use super::atomic::lock_of;
use super::watch::Change;
use super::{Access, Data, Told, failed, name, room};
use crate::events::triggers::Trigger;
use crate::events::triggers::changes::{Operation, Service};
use crate::store;
use crate::store::kv::{EntryRow, Listed};

/// Values of a page together. A page that would be longer is cut short.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Values of one `get_many` together, each as often as it is asked for: what an answer has room for beside a mark
/// and a length for each of them.
const MANY_BYTES_MAX: usize = HOST_REPLY_BYTES_MAX - 8 * KV_LIST_MAX as usize;

/// The longest whole number, as JSON.
const NUMBER_BYTES: usize = 20;

/// A change of one key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Write<'a> {
    Set(Set<'a>),
    Delete(Key<'a>),
    Incr(Incr<'a>),
}

impl<'a> Write<'a> {
    pub(crate) const fn key(&self) -> Key<'a> {
        match *self {
            Self::Set(Set { collection, key, .. })
            | Self::Delete(Key { collection, key })
            | Self::Incr(Incr { collection, key, .. }) => Key { collection, key },
        }
    }

    /// Bytes that it adds to what the app keeps, if there is nothing yet at the key.
    pub(crate) const fn adds(&self) -> usize {
        let value = match self {
            Self::Set(set) => set.value.len(),
            Self::Incr(_) => NUMBER_BYTES,
            Self::Delete(_) => return 0,
        };
        let Key { collection, key } = self.key();
        room::of_row(collection.len() + key.len() + value)
    }
}

/// What a change came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrote {
    Version(u64),
    /// Whether there was something to remove.
    Removed(bool),
    Sum(Sum),
}

/// A part of a collection.
pub(crate) struct Page {
    pub(crate) entries: Vec<EntryRow>,
    pub(crate) has_more: bool,
}

impl Data {
    pub(crate) async fn kv_get(
        &self,
        access: &Access<'_>,
        key: &Key<'_>,
    ) -> Result<Option<String>, CallError> {
        check_key(key)?;
        access.take_rows(1)?;
        let mut conn = self.acquire(access).await?;
        let found = store::kv::get(&mut conn, access.app, key).await;
        conn.answered(found).map_err(|error| failed(&error))
    }

    pub(crate) async fn kv_entry(
        &self,
        access: &Access<'_>,
        key: &Key<'_>,
    ) -> Result<Option<EntryRow>, CallError> {
        check_key(key)?;
        access.take_rows(1)?;
        let mut conn = self.acquire(access).await?;
        let found = store::kv::entry(&mut conn, access.app, key).await;
        conn.answered(found).map_err(|error| failed(&error))
    }

    pub(crate) async fn kv_has(&self, access: &Access<'_>, key: &Key<'_>) -> Result<bool, CallError> {
        check_key(key)?;
        access.take_rows(1)?;
        let mut conn = self.acquire(access).await?;
        let found = store::kv::has(&mut conn, access.app, key).await;
        conn.answered(found).map_err(|error| failed(&error))
    }

    /// The values at these keys that there are. An answer for all of the keys, where one may come twice, has room for
    /// them.
    pub(crate) async fn kv_get_many(
        &self,
        access: &Access<'_>,
        collection: &str,
        keys: &[&str],
    ) -> Result<HashMap<String, String>, CallError> {
        if keys.len() > KV_LIST_MAX as usize {
            return Err(CallError::invalid(format!("get_many takes {KV_LIST_MAX} keys at most")));
        }
        keys.iter().try_for_each(|key| check_key(&Key { collection, key }))?;
        access.take_rows(keys.len())?;
        let mut conn = self.acquire(access).await?;
        let found = store::kv::get_many(&mut conn, access.app, collection, keys, MANY_BYTES_MAX).await;
        let found = conn.answered(found).map_err(|error| failed(&error))?;
        let found: HashMap<String, String> = found.into_iter().collect();
        // Every value that was found counts at least once, so this sees when the database stopped, too.
        let bytes: usize = keys.iter().filter_map(|key| found.get(*key)).map(String::len).sum();
        if bytes > MANY_BYTES_MAX {
            let message = format!(
                "the values at these keys are over the limit of {MANY_BYTES_MAX} bytes together; \
                 ask for fewer keys at a time"
            );
            return Err(CallError::new(CallCode::TooLarge, message));
        }
        Ok(found)
    }

    /// Carries out a change by itself.
    pub(crate) async fn kv_write(&self, access: &Access<'_>, write: &Write<'_>) -> Result<Wrote, CallError> {
        check_write(write)?;
        access.take_rows(1)?;
        let _room = self.take_room(access, write.adds()).await?;
        let is_watched = !self.watch.watchers(&change(access, write)).is_empty();
        if !is_watched && access.rehearsal.is_none() {
            let mut conn = self.acquire(access).await?;
            access.begin()?;
            let wrote = self.kv_change(&mut conn, access, write).await;
            return conn.answered(wrote);
        }
        let mut tx = self.begin(access).await?;
        access.begin()?;
        let mut told = Told::default();
        let wrote = self.kv_apply(&mut tx, access, write, &mut told).await?;
        tx.commit(told).await?;
        Ok(wrote)
    }

    /// Carries out a checked change as a part of a transaction. What is told is to be handed over after
    /// its commit.
    pub(crate) async fn kv_apply(
        &self,
        conn: &mut PgConnection,
        access: &Access<'_>,
        write: &Write<'_>,
        told: &mut Told,
    ) -> Result<Wrote, CallError> {
        let watchers = self.watch.watchers(&change(access, write));
        if watchers.is_empty() {
            return self.kv_change(conn, access, write).await;
        }
        self.kv_change_and_tell(conn, access, write, &watchers, told).await
    }

    /// What is at a key that nobody changes until the transaction ends; whoever tells of a change locks the
    /// same in the same order.
    pub(crate) async fn kv_locked(
        &self,
        conn: &mut PgConnection,
        access: &Access<'_>,
        key: &Key<'_>,
    ) -> Result<Option<EntryRow>, CallError> {
        let found = async {
            store::locks::take(conn, &[lock_of(access, "kv", key.collection, key.key)]).await?;
            match store::kv::lock(conn, access.app, key).await? {
                Some(_) => store::kv::entry(conn, access.app, key).await,
                None => Ok(None),
            }
        };
        found.await.map_err(|error| failed(&error))
    }

    async fn kv_change_and_tell(
        &self,
        conn: &mut PgConnection,
        access: &Access<'_>,
        write: &Write<'_>,
        watchers: &[Arc<Trigger>],
        told: &mut Told,
    ) -> Result<Wrote, CallError> {
        let key = write.key();
        // Nobody else changes it until this is committed, so what it was is what is replaced. The row's lock keeps
        // off those who remove it, of whom perhaps nobody is to be told, so that they take no other lock. A key that
        // is not there yet has no row: this lock keeps off those who write it, who are told of like this one.
        let lock = lock_of(access, "kv", key.collection, key.key);
        store::locks::take(conn, &[lock]).await.map_err(|error| failed(&error))?;
        let (wrote, prev) = match write {
            Write::Delete(key) => {
                let prev = store::kv::delete(conn, access.app, key).await.map_err(|error| failed(&error))?;
                (Wrote::Removed(prev.is_some()), prev)
            }
            Write::Set(_) | Write::Incr(_) => {
                let prev = store::kv::get_locked(conn, access.app, &key).await;
                let prev = prev.map_err(|error| failed(&error))?;
                (self.kv_change(conn, access, write).await?, prev)
            }
        };
        let sum;
        let value = match (wrote, write) {
            (Wrote::Version(_), Write::Set(set)) => Some(set.value),
            (Wrote::Sum(now), _) => {
                sum = now.value.to_string();
                Some(sum.as_str())
            }
            (Wrote::Removed(true), _) => None,
            (Wrote::Version(_) | Wrote::Removed(false), _) => return Ok(wrote),
        };
        let change = (&change(access, write), access);
        self.watch.tell(conn, change, watchers, (value, prev.as_deref()), told).await?;
        Ok(wrote)
    }

    async fn kv_change(
        &self,
        conn: &mut PgConnection,
        access: &Access<'_>,
        write: &Write<'_>,
    ) -> Result<Wrote, CallError> {
        let app = access.app;
        match write {
            Write::Set(set) => {
                let version = store::kv::set(conn, app, set).await.map_err(|error| failed(&error))?;
                let version = version.ok_or_else(|| unmet(set.condition))?;
                if set.ttl_ms > 0 {
                    self.sweeper.expect(Duration::from_millis(set.ttl_ms));
                }
                Ok(Wrote::Version(version))
            }
            Write::Delete(key) => {
                let removed = store::kv::delete(conn, app, key).await.map_err(|error| failed(&error))?;
                Ok(Wrote::Removed(removed.is_some()))
            }
            Write::Incr(incr) => {
                let sum = store::kv::incr(conn, app, incr).await.map_err(|error| no_sum(&error))?;
                Ok(Wrote::Sum(sum))
            }
        }
    }

    pub(crate) async fn kv_list(&self, access: &Access<'_>, list: &List<'_>) -> Result<Page, CallError> {
        name::check_collection(list.collection)?;
        for (what, text) in [("the prefix", list.prefix), ("the cursor", list.after)] {
            if !text.is_empty() {
                name::check(what, text, KV_KEY_BYTES_MAX)?;
            }
        }
        if !(1..=KV_LIST_MAX).contains(&list.limit) {
            return Err(CallError::invalid(format!("limit may be 1 to {KV_LIST_MAX}")));
        }
        access.take_rows(list.limit as usize)?;
        let mut conn = self.acquire(access).await?;
        let listed = store::kv::list(&mut conn, access.app, list, PAGE_BYTES_MAX).await;
        let Listed { rows: mut entries, found } = conn.answered(listed).map_err(|error| failed(&error))?;
        entries.truncate(list.limit as usize);
        access.give_back_rows(list.limit as usize - entries.len());
        Ok(Page { has_more: entries.len() < found, entries })
    }

    /// Names of collections, in the order of their bytes, after this one.
    pub(crate) async fn kv_collections(
        &self,
        access: &Access<'_>,
        after: &str,
        rows: i64,
    ) -> Result<Vec<String>, CallError> {
        let mut conn = self.acquire(access).await?;
        let found = store::kv::collections(&mut conn, access.app, after, rows).await;
        conn.answered(found).map_err(|error| failed(&error))
    }
}

fn change<'a>(access: &Access<'_>, write: &Write<'a>) -> Change<'a> {
    let operation = match write {
        Write::Set(_) | Write::Incr(_) => Operation::Set,
        Write::Delete(_) => Operation::Delete,
    };
    let Key { collection, key } = write.key();
    Change { app: access.app, service: Service::Kv, operation, collection, name: key }
}

pub(super) fn check_key(key: &Key<'_>) -> Result<(), CallError> {
    name::check_collection(key.collection)?;
    name::check("the key", key.key, KV_KEY_BYTES_MAX)
}

/// Refuses a change that nothing in the database could make right.
pub(crate) fn check_write(write: &Write<'_>) -> Result<(), CallError> {
    check_key(&write.key())?;
    match write {
        Write::Set(set) => check_value(set),
        Write::Delete(_) | Write::Incr(_) => Ok(()),
    }
}

fn check_value(set: &Set<'_>) -> Result<(), CallError> {
    if set.value.len() > KV_VALUE_BYTES_MAX {
        let message = format!("a value has {KV_VALUE_BYTES_MAX} bytes of JSON at most");
        return Err(CallError::new(CallCode::TooLarge, message));
    }
    if set.ttl_ms > KV_TTL_MS_MAX {
        return Err(CallError::invalid(format!("ttl is {} s at most", KV_TTL_MS_MAX / 1000)));
    }
    json_scan::check(set.value).map_err(|error| CallError::invalid(error.to_string()))
}

fn unmet(condition: Condition) -> CallError {
    let message = match condition {
        Condition::Absent => "there is a value at this key",
        Condition::Version(_) | Condition::None => "the value at this key is of another version",
    };
    CallError::new(CallCode::Conflict, message)
}

fn no_sum(error: &sqlx::Error) -> CallError {
    if store::kv::is_no_number(error) {
        let message = "the value at this key is no whole number, or the sum is too large for one";
        return CallError::new(CallCode::Conflict, message);
    }
    failed(error)
}
