//! `kv`: values by key.

use shared::call::{CallCode, CallError, HostCall, Reply};
use shared::host_call::kv::{Condition, Found, Key, Set, Written};
use shared::json_scan;
use shared::limits::{COLLECTION_BYTES_MAX, KV_KEY_BYTES_MAX, KV_TTL_MS_MAX, KV_VALUE_BYTES_MAX};

use super::{Services, args, begin, database_failed};
use crate::store;

pub(super) async fn get(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let key = checked(args::<Key<'_>>(call)?)?;
    let mut conn = services.database.acquire().await.map_err(|error| database_failed(&error))?;
    let found =
        store::kv::get(&mut conn, call.context.app(), &key).await.map_err(|error| database_failed(&error))?;
    Ok(Reply::success(&Found { value: found.as_deref() }))
}

pub(super) async fn set(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let set: Set<'_> = args(call)?;
    checked(Key { collection: set.collection, key: set.key })?;
    check_value(&set)?;
    let mut conn = services.database.acquire().await.map_err(|error| database_failed(&error))?;
    begin(call)?;
    let written =
        store::kv::set(&mut conn, call.context.app(), &set).await.map_err(|error| database_failed(&error))?;
    let version = written.ok_or_else(|| unmet(set.condition))?;
    Ok(Reply::success(&Written { version }))
}

/// Names are bytes to the platform: any text will do that the database can keep.
fn checked(key: Key<'_>) -> Result<Key<'_>, CallError> {
    check_name("the collection's name", key.collection, COLLECTION_BYTES_MAX)?;
    check_name("the key", key.key, KV_KEY_BYTES_MAX)?;
    Ok(key)
}

fn check_name(what: &str, name: &str, bytes_max: usize) -> Result<(), CallError> {
    if name.is_empty() || name.len() > bytes_max {
        return Err(CallError::invalid(format!("{what} must have 1 to {bytes_max} bytes")));
    }
    if name.contains('\0') {
        return Err(CallError::invalid(format!("{what} must not contain NUL")));
    }
    Ok(())
}

fn check_value(set: &Set<'_>) -> Result<(), CallError> {
    if set.value.len() > KV_VALUE_BYTES_MAX {
        let message = format!("a value has {KV_VALUE_BYTES_MAX} bytes of JSON at most");
        return Err(CallError::new(CallCode::TooLarge, message));
    }
    if set.ttl_ms > KV_TTL_MS_MAX {
        return Err(CallError::invalid(format!("ttl is {KV_TTL_MS_MAX} ms at most")));
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
