//! The values that an app's scripts keep.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::host_call::kv::{Condition, Key, List, Set};
use sqlx::postgres::PgConnection;

use super::Admin;
use super::page::{Items, Page, PageParams};
use super::precondition::{Preconditions, Resource, Tagged};
use super::problem::ApiError;
use super::read::{Json, Params};
use crate::audit::{self, Entry};
use crate::auth::Principal;
use crate::data::kv::{Write, Wrote, check_write};
use crate::data::{Access, Told};
use crate::store;
use crate::store::apps::App;
use crate::store::kv::EntryRow;

#[derive(Serialize, JsonSchema)]
pub(super) struct KvCollection {
    name: String,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct KvEntry {
    key: String,
    value: Value,
    /// Another one after each change.
    version: u64,
    expires_at: Option<DateTime<Utc>>,
    updated_at: DateTime<Utc>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct KvWritten {
    version: u64,
    /// What is there now.
    #[serde(skip)]
    entry: KvEntry,
}

impl Resource for KvEntry {
    fn state(&self) -> &impl Serialize {
        self
    }
}

impl Resource for KvWritten {
    fn state(&self) -> &impl Serialize {
        self.entry.state()
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// Only keys that begin with this.
    #[serde(default)]
    prefix: String,
    /// Most items of the page; there are fewer when they are long.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetBody {
    value: Value,
    /// For how many seconds the value is there; for good unless given.
    #[schemars(range(min = 1))]
    ttl: Option<u32>,
    /// Write only if the value is of this version.
    if_version: Option<u64>,
    /// Write only if there is no value.
    #[serde(default)]
    if_absent: bool,
}

pub(super) async fn collections(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<KvCollection>>, ApiError> {
    let page = params.page::<String>()?;
    let after = page.after.as_deref().unwrap_or_default();
    let names = admin.data.kv_collections(&Access::of_person(&app), after, page.rows()).await?;
    Ok(JsonBody(page.items(names, String::clone).map(|name| KvCollection { name })))
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    app: App,
    Path((_, collection)): Path<(String, String)>,
    Params(params): Params<ListParams>,
) -> Result<JsonBody<Items<KvEntry>>, ApiError> {
    let page = Page::<String>::new(params.limit, params.cursor.as_deref())?;
    let list = List {
        collection: &collection,
        prefix: &params.prefix,
        limit: page.limit(),
        after: page.after.as_deref().unwrap_or_default(),
    };
    let found = admin.data.kv_list(&Access::of_person(&app), &list).await?;
    let last = found.entries.last().filter(|_| found.has_more).map(|entry| entry.key.clone());
    Ok(JsonBody(Items::up_to(found.entries.into_iter().map(view).collect(), last.as_deref())))
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    app: App,
    Path((_, collection, key)): Path<(String, String, String)>,
) -> Result<Tagged<KvEntry>, ApiError> {
    let key = Key { collection: &collection, key: &key };
    let entry = admin.data.kv_entry(&Access::of_person(&app), &key).await?;
    entry.map(|row| Tagged(view(row))).ok_or_else(missing)
}

pub(super) async fn set(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, collection, key)): Path<(String, String, String)>,
    preconditions: Preconditions,
    Json(body): Json<SetBody>,
) -> Result<Tagged<KvWritten>, ApiError> {
    let condition = match (body.if_version, body.if_absent) {
        (Some(_), true) => return Err(ApiError::invalid("if_version and if_absent exclude each other")),
        (Some(version), false) => Condition::Version(version),
        (None, true) => Condition::Absent,
        // Somebody else may be the first between the look and the write.
        (None, false) if preconditions.ask_for_new() => Condition::Absent,
        (None, false) => Condition::None,
    };
    let value = body.value.to_string();
    let ttl_ms = u64::from(body.ttl.unwrap_or(0)) * 1000;
    let write = Write::Set(Set { collection: &collection, key: &key, value: &value, ttl_ms, condition });
    check_write(&write)?;
    let access = Access::of_person(&app);
    let _room = admin.data.take_room(&access, write.adds()).await?;
    let mut tx = admin.data.begin(&access).await?;
    let told = change(&mut tx, &admin, (&principal, &app), &preconditions, "kv.set", &write).await?;
    let now = store::kv::entry(&mut tx, app.id, &write.key()).await?.ok_or_else(missing)?;
    tx.commit(told).await?;
    let entry = view(now);
    Ok(Tagged(KvWritten { version: entry.version, entry }))
}

pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, collection, key)): Path<(String, String, String)>,
    preconditions: Preconditions,
) -> Result<StatusCode, ApiError> {
    let write = Write::Delete(Key { collection: &collection, key: &key });
    check_write(&write)?;
    let access = Access::of_person(&app);
    let _room = admin.data.take_room(&access, write.adds()).await?;
    let mut tx = admin.data.begin(&access).await?;
    let told = change(&mut tx, &admin, (&principal, &app), &preconditions, "kv.delete", &write).await?;
    tx.commit(told).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A checked change by a person, with its line in the audit log; the value is nobody's business there. What is told
/// is to be handed over after the commit.
async fn change(
    conn: &mut PgConnection,
    admin: &Admin,
    (principal, app): (&Principal, &App),
    preconditions: &Preconditions,
    action: &'static str,
    write: &Write<'_>,
) -> Result<Told, ApiError> {
    let access = Access::of_person(app);
    let before = admin.data.kv_locked(conn, &access, &write.key()).await?.map(view);
    if before.is_none() && matches!(write, Write::Delete(_)) {
        return Err(missing());
    }
    preconditions.check(before.as_ref())?;
    let mut told = Told::default();
    let wrote = admin.data.kv_apply(conn, &access, write, &mut told).await?;
    if wrote == Wrote::Removed(false) {
        return Err(missing());
    }
    let Key { collection, key } = write.key();
    let target = format!("{collection}/{key}");
    audit::append(conn, Entry::new(principal, action, &target).on(app.id)).await?;
    Ok(told)
}

fn view(row: EntryRow) -> KvEntry {
    KvEntry {
        value: serde_json::from_str(&row.value).unwrap_or_default(),
        key: row.key,
        version: row.version.cast_unsigned(),
        expires_at: row.expires_at,
        updated_at: row.updated_at,
    }
}

fn missing() -> ApiError {
    ApiError::not_found("there is no value at this key")
}
