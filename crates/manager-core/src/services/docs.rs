//! `docs`: documents, and questions about them.

use chrono::{DateTime, SecondsFormat, Utc};
use shared::call::{CallError, HostCall, Reply};
use shared::host_call::docs::{Counted, Created, Deleted, Document, Find, Found, Id, Page, Updated};

use super::{Services, args};
use crate::data::Access;
use crate::data::docs::{Write, Wrote};
use crate::store::docs::DocumentRow;

pub(super) async fn create(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    write(services, call, Write::Create(args(call)?)).await
}

pub(super) async fn update(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    write(services, call, Write::Update(args(call)?)).await
}

pub(super) async fn delete(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    write(services, call, Write::Delete(args(call)?)).await
}

async fn write(services: &Services, call: &HostCall, write: Write<'_>) -> Result<Reply, CallError> {
    Ok(match services.data.doc_write(&Access::of_script(call), &write).await? {
        Wrote::Created(id) => Reply::success(&Created { id: &id.to_string() }),
        Wrote::Updated(version) => Reply::success(&Updated { version: version.map(i64::cast_unsigned) }),
        Wrote::Deleted(existed) => Reply::success(&Deleted { existed }),
    })
}

pub(super) async fn get(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let id: Id<'_> = args(call)?;
    let texts = services.data.doc_get(&Access::of_script(call), &id).await?.map(Texts::of);
    Ok(Reply::success(&Found { document: texts.as_ref().map(Texts::as_document) }))
}

pub(super) async fn find(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let find: Find<'_> = args(call)?;
    let page = services.data.doc_find(&Access::of_script(call), &find).await?;
    let texts: Vec<Texts> = page.documents.into_iter().map(Texts::of).collect();
    let documents = texts.iter().map(Texts::as_document).collect();
    Ok(Reply::success(&Page { documents, cursor: page.cursor.as_deref() }))
}

pub(super) async fn count(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let Find { collection, query, .. } = args(call)?;
    let count = services.data.doc_count(&Access::of_script(call), collection, query).await?;
    Ok(Reply::success(&Counted { count }))
}

/// A row with what the guest gets as text.
struct Texts {
    row: DocumentRow,
    id: String,
    created_at: String,
    updated_at: String,
}

impl Texts {
    fn of(row: DocumentRow) -> Self {
        Self {
            id: row.id.to_string(),
            created_at: rfc3339(row.created_at),
            updated_at: rfc3339(row.updated_at),
            row,
        }
    }

    fn as_document(&self) -> Document<'_> {
        Document {
            id: &self.id,
            data: &self.row.data,
            version: self.row.version.cast_unsigned(),
            created_at: &self.created_at,
            updated_at: &self.updated_at,
        }
    }
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
