//! `kv`: values by key.

use shared::call::{CallError, HostCall, Reply};
use shared::host_call::kv::{Entry, Existed, Found, FoundEntry, FoundMany, Key, Keys, List, Page, Written};

use super::{Services, args};
use crate::data::Access;
use crate::data::kv::{Write, Wrote};
use crate::store::kv::EntryRow;

pub(super) async fn get(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let key: Key<'_> = args(call)?;
    let found = services.data.kv_get_ahead(call, &key).await?;
    Ok(Reply::success(&Found { value: found.as_deref() }))
}

pub(super) async fn entry(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let key: Key<'_> = args(call)?;
    let row = services.data.kv_entry(&Access::of_script(call), &key).await?;
    Ok(Reply::success(&FoundEntry { entry: row.as_ref().map(as_entry) }))
}

pub(super) async fn has(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let key: Key<'_> = args(call)?;
    let existed = services.data.kv_has(&Access::of_script(call), &key).await?;
    Ok(Reply::success(&Existed { existed }))
}

pub(super) async fn get_many(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let Keys { collection, keys } = args(call)?;
    let found = services.data.kv_get_many(&Access::of_script(call), collection, &keys).await?;
    let values = keys.iter().map(|key| found.get(*key).map(String::as_str)).collect();
    Ok(Reply::success(&FoundMany { values }))
}

pub(super) async fn set(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    write(services, call, Write::Set(args(call)?)).await
}

pub(super) async fn delete(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    write(services, call, Write::Delete(args(call)?)).await
}

pub(super) async fn incr(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    write(services, call, Write::Incr(args(call)?)).await
}

async fn write(services: &Services, call: &HostCall, write: Write<'_>) -> Result<Reply, CallError> {
    Ok(match services.data.kv_write(&Access::of_script(call), &write).await? {
        Wrote::Version(version) => Reply::success(&Written { version }),
        Wrote::Removed(existed) => Reply::success(&Existed { existed }),
        Wrote::Sum(sum) => Reply::success(&sum),
    })
}

pub(super) async fn list(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let list: List<'_> = args(call)?;
    let page = services.data.kv_list(&Access::of_script(call), &list).await?;
    let entries = page.entries.iter().map(as_entry).collect();
    Ok(Reply::success(&Page { entries, has_more: page.has_more }))
}

fn as_entry(row: &EntryRow) -> Entry<'_> {
    Entry {
        key: &row.key,
        value: &row.value,
        version: row.version.cast_unsigned(),
        expires_at_ms: row.expires_at.map(|at| at.timestamp_millis()),
    }
}
