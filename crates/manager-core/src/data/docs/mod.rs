//! Documents: JSON by collection and id, and questions about them.

pub(crate) mod cursor;
pub(crate) mod indexer;
pub(crate) mod query;
pub(crate) mod schema;

use serde_json::Value;
use shared::call::{CallCode, CallError};
use shared::host_call::docs::{Create, Find, Id, Update};
use shared::json_scan;
use shared::limits::DOC_BYTES_MAX;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use self::cursor::Cursor;
use self::query::Query;
use self::schema::Compared;
pub(crate) use super::name::check_collection;
use super::watch::Change;
use super::{Access, Data, Told, failed, name, room};
use crate::events::triggers::changes::{Operation, Service};
use crate::store;
use crate::store::docs::find::Listed;
use crate::store::docs::{Changed, DocumentRow};

/// A part of what a query finds.
pub(crate) struct Page {
    pub(crate) documents: Vec<DocumentRow>,
    pub(crate) cursor: Option<String>,
}

/// A change of one document.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Write<'a> {
    Create(Create<'a>),
    Update(Update<'a>),
    Delete(Id<'a>),
}

impl Write<'_> {
    /// Bytes that it adds to what the app keeps, if the document has nothing of it yet.
    pub(crate) const fn adds(&self) -> usize {
        match self {
            Self::Create(Create { collection, data }) | Self::Update(Update { collection, data, .. }) => {
                room::of_row(collection.len() + data.len())
            }
            Self::Delete(_) => 0,
        }
    }
}

/// What a change came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrote {
    Created(Uuid),
    /// The new version; none when there is no such document.
    Updated(Option<i64>),
    Deleted(bool),
}

impl Data {
    pub(crate) async fn doc_get(
        &self,
        access: &Access<'_>,
        id: &Id<'_>,
    ) -> Result<Option<DocumentRow>, CallError> {
        name::check_collection(id.collection)?;
        let Some(uuid) = parse_id(id.id)? else { return Ok(None) };
        access.take_rows(1)?;
        let mut conn = self.acquire(access).await?;
        let found = store::docs::get(&mut conn, access.app, id.collection, uuid).await;
        conn.answered(found).map_err(|error| failed(&error))
    }

    pub(crate) async fn doc_find(&self, access: &Access<'_>, find: &Find<'_>) -> Result<Page, CallError> {
        name::check_collection(find.collection)?;
        let query = Query::parse(find.query)?;
        let after = match find.cursor {
            "" => None,
            text => Some(Cursor::decode(text, query.sort.len())?),
        };
        access.take_rows(query.limit as usize)?;
        let mut conn = self.acquire(access).await?;
        let listed = store::docs::find::find(&mut conn, access.app, find.collection, &query, after.as_ref());
        let listed = listed.await;
        let Listed { rows: mut documents, found } = conn.answered(listed).map_err(|error| refused(&error))?;
        documents.truncate(query.limit as usize);
        access.give_back_rows(query.limit as usize - documents.len());
        let last = documents.last().filter(|_| documents.len() < found);
        let cursor = last.map(|last| {
            let data: Value = serde_json::from_str(&last.data).unwrap_or_default();
            Cursor::behind(&query.sort, last.id, &data).encode(&query.sort)
        });
        let cursor = cursor.transpose()?;
        Ok(Page { documents, cursor })
    }

    pub(crate) async fn doc_count(
        &self,
        access: &Access<'_>,
        collection: &str,
        query: &str,
    ) -> Result<u64, CallError> {
        name::check_collection(collection)?;
        let query = Query::parse(query)?;
        access.take_rows(1)?;
        let mut conn = self.acquire(access).await?;
        let count = store::docs::find::count(&mut conn, access.app, collection, &query.filter).await;
        Ok(conn.answered(count).map_err(|error| refused(&error))?.cast_unsigned())
    }

    /// Names of collections, in the order of their bytes, after this one.
    pub(crate) async fn doc_collections(
        &self,
        access: &Access<'_>,
        after: &str,
        rows: i64,
    ) -> Result<Vec<String>, CallError> {
        let mut conn = self.acquire(access).await?;
        let found = store::docs::collections(&mut conn, access.app, after, rows).await;
        conn.answered(found).map_err(|error| failed(&error))
    }

    /// Carries out a change by itself.
    pub(crate) async fn doc_write(&self, access: &Access<'_>, write: &Write<'_>) -> Result<Wrote, CallError> {
        check_write(write)?;
        access.take_rows(1)?;
        let compared = self.compare_ahead(access, write).await?;
        let _room = self.take_room(access, write.adds()).await?;
        let meant = change(access, write, "");
        let is_plain = self.watch.watchers(&meant).is_empty()
            && !self.has_schema(access.app, meant.collection)
            && access.rehearsal.is_none();
        if is_plain {
            let mut conn = self.acquire(access).await?;
            access.begin()?;
            let wrote = carry_out(&mut conn, access, write).await;
            return Ok(conn.answered(wrote)?.wrote);
        }
        let mut tx = self.begin(access).await?;
        access.begin()?;
        let mut told = Told::default();
        let wrote = self.doc_apply(&mut tx, access, (write, compared), &mut told).await?;
        tx.commit(told).await?;
        Ok(wrote)
    }

    /// Carries out a checked change as a part of a transaction, which a document that does not fit its
    /// collection's schema must end; [`Self::compare_ahead`] has seen most of those before. What is told is to be
    /// handed over after its commit.
    pub(crate) async fn doc_apply(
        &self,
        conn: &mut PgConnection,
        access: &Access<'_>,
        (write, compared): (&Write<'_>, Compared),
        told: &mut Told,
    ) -> Result<Wrote, CallError> {
        let Done { wrote, id, data, prev } = carry_out(conn, access, write).await?;
        let Some(id) = id else { return Ok(wrote) };
        let id = id.to_string();
        let change = change(access, write, &id);
        if let Some(data) = &data {
            self.check_schema(conn, (access.app, change.collection), data, compared).await?;
        }
        let watchers = self.watch.watchers(&change);
        if !watchers.is_empty() {
            let values = (data.as_deref(), prev.as_deref());
            self.watch.tell(conn, (&change, access), &watchers, values, told).await?;
        }
        Ok(wrote)
    }
}

/// A change that was carried out.
struct Done {
    wrote: Wrote,
    /// Which document was changed, if any was.
    id: Option<Uuid>,
    /// What it became and what it was, as JSON text.
    data: Option<String>,
    prev: Option<String>,
}

impl Done {
    const fn nothing(wrote: Wrote) -> Self {
        Self { wrote, id: None, data: None, prev: None }
    }
}

async fn carry_out(
    conn: &mut PgConnection,
    access: &Access<'_>,
    write: &Write<'_>,
) -> Result<Done, CallError> {
    let app = access.app;
    match write {
        Write::Create(Create { collection, data }) => {
            let id = Uuid::now_v7();
            store::docs::insert(conn, app, collection, id, data).await.map_err(|error| refused(&error))?;
            let data = Some((*data).to_owned());
            Ok(Done { wrote: Wrote::Created(id), id: Some(id), data, prev: None })
        }
        Write::Update(update) => {
            let Some(id) = parse_id(update.id)? else { return Ok(Done::nothing(Wrote::Updated(None))) };
            apply_update(conn, access, id, update).await
        }
        Write::Delete(Id { collection, id }) => {
            let Some(id) = parse_id(id)? else { return Ok(Done::nothing(Wrote::Deleted(false))) };
            let prev =
                store::docs::delete(conn, app, collection, id).await.map_err(|error| failed(&error))?;
            let wrote = Wrote::Deleted(prev.is_some());
            Ok(Done { wrote, id: prev.as_ref().map(|_| id), data: None, prev })
        }
    }
}

async fn apply_update(
    conn: &mut PgConnection,
    access: &Access<'_>,
    id: Uuid,
    update: &Update<'_>,
) -> Result<Done, CallError> {
    let Update { collection, data, mode, if_version, .. } = *update;
    let change = store::docs::Change { collection, id, data, mode };
    let version = if_version.map(|version| i64::try_from(version).unwrap_or(-1));
    let changed =
        store::docs::update(conn, access.app, &change, version).await.map_err(|error| refused(&error))?;
    if let Some(Changed { version, data, prev }) = changed {
        let wrote = Wrote::Updated(Some(version));
        return Ok(Done { wrote, id: Some(id), data: Some(data), prev: Some(prev) });
    }
    if if_version.is_some()
        && store::docs::get(conn, access.app, collection, id).await.map_err(|error| failed(&error))?.is_some()
    {
        return Err(CallError::new(CallCode::Conflict, "the document is of another version"));
    }
    Ok(Done::nothing(Wrote::Updated(None)))
}

fn change<'a>(access: &Access<'_>, write: &Write<'a>, id: &'a str) -> Change<'a> {
    let (operation, collection) = match write {
        Write::Create(create) => (Operation::Create, create.collection),
        Write::Update(update) => (Operation::Update, update.collection),
        Write::Delete(id) => (Operation::Delete, id.collection),
    };
    Change { app: access.app, service: Service::Docs, operation, collection, name: id }
}

/// Refuses a change that nothing in the database could make right.
pub(crate) fn check_write(write: &Write<'_>) -> Result<(), CallError> {
    match write {
        Write::Create(Create { collection, data }) => {
            name::check_collection(collection)?;
            check_data(data)
        }
        Write::Update(update) => {
            name::check_collection(update.collection)?;
            check_data(update.data)
        }
        Write::Delete(id) => name::check_collection(id.collection),
    }
}

/// An id that is none of ours is no document's.
fn parse_id(text: &str) -> Result<Option<Uuid>, CallError> {
    if text.len() > 64 {
        return Err(CallError::invalid("that is no id of a document"));
    }
    Ok(Uuid::parse_str(text).ok())
}

fn check_data(data: &str) -> Result<(), CallError> {
    if data.len() > DOC_BYTES_MAX {
        return Err(too_large());
    }
    json_scan::check(data).map_err(|error| CallError::invalid(error.to_string()))?;
    if !json_scan::is_object(data) {
        return Err(CallError::invalid("a document is a map"));
    }
    Ok(())
}

fn too_large() -> CallError {
    CallError::new(CallCode::TooLarge, format!("a document has {DOC_BYTES_MAX} bytes of JSON at most"))
}

/// What the database cannot keep is the script's doing: U+0000 in a text, or a number of a million
/// digits, or too long a text in a member that is indexed.
fn refused(error: &sqlx::Error) -> CallError {
    if store::violates(error, "docs_size") {
        return too_large();
    }
    if store::is_about_data(error) {
        let message = error.as_database_error().map_or_else(String::new, |error| error.message().to_owned());
        return CallError::invalid(format!("the database cannot keep that: {message}"));
    }
    failed(error)
}
