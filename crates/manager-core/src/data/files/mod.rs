//! Files: what is known of them is in the database, what is in them is not.

pub(crate) mod blobs;
mod halves;
pub(crate) mod in_flight;
pub(crate) mod link;
pub(crate) mod orphans;
pub(crate) mod read;
mod readers;
pub(crate) mod unclaimed;
pub(crate) mod upload;

use serde_json::json;
use shared::call::{CallCode, CallError};
use shared::id::AppId;
use shared::limits::{FILE_NAME_BYTES_MAX, FILES_BYTES_MAX, FILES_LIST_MAX};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use self::unclaimed::Unclaimed;
use self::upload::Upload;
use super::watch::Change;
use super::{Access, Data, Told, failed, name};
use crate::events::triggers::changes::{Operation, Service};
use crate::store;
use crate::store::files::{FileRow, Stored};

/// Longest content type.
const CONTENT_TYPE_BYTES_MAX: usize = 127;

/// What a file is to be called, where something is to be changed about that.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Labels<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) content_type: Option<&'a str>,
}

/// A change of one file. Its content has been taken in before.
#[derive(Debug)]
pub(crate) enum Write<'a> {
    Create { collection: &'a str, labels: Labels<'a>, content: Unclaimed },
    Update { collection: &'a str, id: &'a str, labels: Labels<'a>, content: Option<Unclaimed> },
    Delete { collection: &'a str, id: &'a str },
}

impl Write<'_> {
    const fn collection(&self) -> &str {
        match self {
            Self::Create { collection, .. }
            | Self::Update { collection, .. }
            | Self::Delete { collection, .. } => collection,
        }
    }

    const fn content(&self) -> Option<&Unclaimed> {
        match self {
            Self::Create { content, .. } => Some(content),
            Self::Update { content, .. } => content.as_ref(),
            Self::Delete { .. } => None,
        }
    }

    /// To be called right before the commit of what it came to. A commit that fails, or for which nobody waits any
    /// more, may have happened all the same: the content then stays for the sweep, which looks.
    pub(crate) fn claim(&self, wrote: &Wrote) {
        if let Some(content) = self.content().filter(|_| wrote.file.is_some()) {
            content.claim();
        }
    }
}

/// What a change came to.
#[must_use = "what is no longer used is removed behind the commit"]
#[derive(Debug)]
pub(crate) struct Wrote {
    /// The file as it is now, or as it was before it was removed; nothing when there was none.
    file: Option<FileRow>,
    /// What it was.
    before: Option<FileRow>,
    /// Whether no row names the content any more that it had.
    is_content_unused: bool,
    /// Bytes by which the app's files grow; below 0 when they shrink.
    growth: i64,
}

impl Wrote {
    const NOTHING: Self = Self { file: None, before: None, is_content_unused: false, growth: 0 };

    pub(crate) const fn file(&self) -> Option<&FileRow> {
        self.file.as_ref()
    }
}

/// A part of a collection.
pub(crate) struct Page {
    pub(crate) files: Vec<FileRow>,
    pub(crate) has_more: bool,
}

impl Data {
    /// Begins to take in a content, as far as the app has room.
    pub(crate) async fn upload(&self, access: &Access<'_>) -> Result<Upload, CallError> {
        let used = {
            let mut conn = self.acquire(access).await?;
            let used = store::files::usage(&mut conn, access.app).await;
            conn.answered(used).map_err(|error| failed(&error))?
        };
        Ok(Upload::new(self.blobs.clone(), self.in_flight.begin(access.app, used)))
    }

    pub(crate) async fn file_head(
        &self,
        access: &Access<'_>,
        collection: &str,
        id: &str,
    ) -> Result<Option<FileRow>, CallError> {
        name::check_collection(collection)?;
        let Ok(id) = Uuid::parse_str(id) else { return Ok(None) };
        access.take_rows(1)?;
        let mut conn = self.acquire(access).await?;
        let found = store::files::get(&mut conn, access.app, collection, id).await;
        conn.answered(found).map_err(|error| failed(&error))
    }

    pub(crate) async fn file_list(
        &self,
        access: &Access<'_>,
        collection: &str,
        after: &str,
        limit: u32,
    ) -> Result<Page, CallError> {
        name::check_collection(collection)?;
        if !(1..=FILES_LIST_MAX).contains(&limit) {
            return Err(CallError::invalid(format!("limit may be 1 to {FILES_LIST_MAX}")));
        }
        let after = match after {
            "" => None,
            id => Some(
                Uuid::parse_str(id).map_err(|_| CallError::invalid("the cursor is not one of this list"))?,
            ),
        };
        access.take_rows(limit as usize)?;
        let mut conn = self.acquire(access).await?;
        let files = store::files::page(&mut conn, access.app, collection, after, i64::from(limit) + 1).await;
        let mut files = conn.answered(files).map_err(|error| failed(&error))?;
        let has_more = files.len() > limit as usize;
        files.truncate(limit as usize);
        access.give_back_rows(limit as usize - files.len());
        Ok(Page { files, has_more })
    }

    pub(crate) async fn file_collections(
        &self,
        access: &Access<'_>,
        after: &str,
        rows: i64,
    ) -> Result<Vec<String>, CallError> {
        let mut conn = self.acquire(access).await?;
        let found = store::files::collections(&mut conn, access.app, after, rows).await;
        conn.answered(found).map_err(|error| failed(&error))
    }

    /// Carries out a change by itself.
    pub(crate) async fn file_write(
        &self,
        access: &Access<'_>,
        write: &Write<'_>,
    ) -> Result<Option<FileRow>, CallError> {
        let mut tx = self.begin(access).await?;
        access.begin()?;
        let mut told = Told::default();
        let wrote = self.file_apply(&mut tx, access, write, &mut told).await?;
        if let (Some(rehearsal), Some(content)) = (access.rehearsal, write.content()) {
            // Taken back in the end: what the file had before it keeps, and what it has now goes.
            let stored = content.stored();
            rehearsal.note_content(stored.blob, stored.chunks.len() / 32);
        }
        write.claim(&wrote);
        tx.commit(told).await?;
        if access.rehearsal.is_some() {
            return Ok(wrote.file);
        }
        Ok(self.file_done(access.app, wrote))
    }

    /// Carries out a change as a part of a transaction. Before its commit [`Write::claim`] is to be called; behind it
    /// what is told is to be handed over, and [`Self::file_done`] to be called.
    pub(crate) async fn file_apply(
        &self,
        conn: &mut PgConnection,
        access: &Access<'_>,
        write: &Write<'_>,
        told: &mut Told,
    ) -> Result<Wrote, CallError> {
        access.take_rows(1)?;
        let wrote = apply(conn, access, write).await?;
        let Some(file) = &wrote.file else { return Ok(wrote) };
        let id = file.id.to_string();
        let operation = match write {
            Write::Create { .. } => Operation::Create,
            Write::Update { .. } => Operation::Update,
            Write::Delete { .. } => Operation::Delete,
        };
        let collection = write.collection();
        let change = Change { app: access.app, service: Service::Files, operation, collection, name: &id };
        let watchers = self.watch.watchers(&change);
        if !watchers.is_empty() {
            let now = (operation != Operation::Delete).then(|| about(file));
            let before = wrote.before.as_ref().map(about);
            let values = (now.as_deref(), before.as_deref());
            self.watch.tell(conn, (&change, access), &watchers, values, told).await?;
        }
        Ok(wrote)
    }

    /// To be called when a change of an app's file has been committed: removes the content that no row names any
    /// more, when nobody reads it, and answers the file, as it is or was.
    pub(crate) fn file_done(&self, app: AppId, wrote: Wrote) -> Option<FileRow> {
        self.in_flight.note_growth(app, wrote.growth);
        if let Some(old) = wrote.before.filter(|_| wrote.is_content_unused) {
            let in_flight = self.in_flight.clone();
            self.blobs
                .remove_unread((old.blob, old.chunks.len() / 32), move || in_flight.hold(app, old.size));
        }
        wrote.file
    }
}

async fn apply(conn: &mut PgConnection, access: &Access<'_>, write: &Write<'_>) -> Result<Wrote, CallError> {
    name::check_collection(write.collection())?;
    match write {
        Write::Create { collection, labels, content } => {
            check_labels(*labels)?;
            let (Some(name), Some(content_type)) = (labels.name, labels.content_type) else {
                return Err(CallError::invalid("a file has a name and a content_type"));
            };
            let stored = content.stored();
            let row = store::files::insert(conn, access.app, collection, (name, content_type), stored)
                .await
                .map_err(|error| failed(&error))?;
            count(conn, access, stored.size, 1).await?;
            Ok(Wrote { file: Some(row), growth: stored.size, ..Wrote::NOTHING })
        }
        Write::Update { collection, id, labels, content } => {
            check_labels(*labels)?;
            update(conn, access, (collection, id), *labels, content.as_ref().map(Unclaimed::stored)).await
        }
        Write::Delete { collection, id } => {
            let Ok(id) = Uuid::parse_str(id) else { return Ok(Wrote::NOTHING) };
            let old = store::files::delete(conn, access.app, collection, id)
                .await
                .map_err(|error| failed(&error))?;
            let Some(old) = old else { return Ok(Wrote::NOTHING) };
            count(conn, access, -old.size, -1).await?;
            let growth = -old.size;
            Ok(Wrote { file: Some(old.clone()), before: Some(old), is_content_unused: true, growth })
        }
    }
}

async fn update(
    conn: &mut PgConnection,
    access: &Access<'_>,
    (collection, id): (&str, &str),
    labels: Labels<'_>,
    content: Option<&Stored>,
) -> Result<Wrote, CallError> {
    let Ok(id) = Uuid::parse_str(id) else { return Ok(Wrote::NOTHING) };
    let old = store::files::lock(conn, access.app, collection, id).await.map_err(|error| failed(&error))?;
    let Some(old) = old else { return Ok(Wrote::NOTHING) };
    let stored = content.cloned().unwrap_or_else(|| content_of(&old));
    let names = (labels.name.unwrap_or(&old.name), labels.content_type.unwrap_or(&old.content_type));
    let row = store::files::update(conn, access.app, collection, id, names, &stored)
        .await
        .map_err(|error| failed(&error))?;
    let growth = stored.size - old.size;
    count(conn, access, growth, 0).await?;
    Ok(Wrote { file: Some(row), before: Some(old), is_content_unused: content.is_some(), growth })
}

/// What a handler sees of a file, as JSON text.
fn about(row: &FileRow) -> String {
    let checksum: String = row.checksum.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "id": row.id,
        "name": row.name,
        "content_type": row.content_type,
        "size": row.size,
        "checksum": checksum,
        "version": row.version,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    })
    .to_string()
}

fn content_of(row: &FileRow) -> Stored {
    Stored {
        blob: row.blob,
        size: row.size,
        checksum: row.checksum.as_slice().try_into().unwrap_or_default(),
        chunk_bytes: row.chunk_bytes,
        chunks: row.chunks.clone(),
    }
}

/// Counts a change against what the app may keep.
async fn count(conn: &mut PgConnection, access: &Access<'_>, size: i64, files: i64) -> Result<(), CallError> {
    let sum = store::files::add_usage(conn, access.app, size, files).await.map_err(|error| failed(&error))?;
    if size > 0 && sum > FILES_BYTES_MAX {
        return Err(no_room());
    }
    Ok(())
}

fn no_room() -> CallError {
    let message = format!(
        "the files of an app, with what is on its way in, have {FILES_BYTES_MAX} bytes together at most: delete some, \
         or wait until other uploads, and downloads of what was deleted or replaced, have ended"
    );
    CallError::new(CallCode::BudgetExhausted, message)
}

fn check_labels(labels: Labels<'_>) -> Result<(), CallError> {
    if let Some(file_name) = labels.name {
        name::check("the file's name", file_name, FILE_NAME_BYTES_MAX)?;
    }
    if let Some(content_type) = labels.content_type {
        name::check("the content type", content_type, CONTENT_TYPE_BYTES_MAX)?;
        if http::HeaderValue::from_str(content_type).is_err() || !content_type.contains('/') {
            return Err(CallError::invalid("the content type is none, such as text/plain"));
        }
    }
    Ok(())
}

fn storage_failed(error: &object_store::Error) -> CallError {
    tracing::error!(%error, "the storage for files failed");
    CallError::new(CallCode::Unavailable, "the storage for files cannot be used now")
}
