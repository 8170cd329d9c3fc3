//! `files`: contents with a name and a type.

use chrono::{DateTime, SecondsFormat, Utc};
use shared::call::{CallCode, CallError, HostCall, Reply};
use shared::host_call::files::{
    Append, Appended, Content, Create, Deleted, Found, FoundPart, Id, Link, Linked, List, Meta, Page, Part,
    Read, Update,
};

use super::{Services, args};
use crate::data::Access;
use crate::data::files::unclaimed::Unclaimed;
use crate::data::files::{Labels, Write};
use crate::data::uploads::{Begun, OpenUploads};
use crate::store::files::FileRow;

pub(super) async fn append(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let Append { upload: number, data } = args(call)?;
    let open = OpenUploads::of(call)?;
    // A call's own number is no other upload's.
    let (number, mut begun) = match number {
        0 => {
            let place = open.begin(&services.uploads, call.context.app())?;
            let upload = services.data.upload(&Access::of_script(call)).await?;
            (call.number, Begun { upload, place })
        }
        number => (number, open.take(number)?),
    };
    begun.upload.write(data).await?;
    open.keep(number, begun);
    Ok(Reply::success(&Appended { upload: number }))
}

/// Stores a content to its end.
async fn content(services: &Services, call: &HostCall, content: Content<'_>) -> Result<Unclaimed, CallError> {
    // A place is kept until the content is.
    let (mut upload, _place) = match content.upload {
        0 => (services.data.upload(&Access::of_script(call)).await?, None),
        number => {
            let Begun { upload, place } = OpenUploads::of(call)?.take(number)?;
            (upload, Some(place))
        }
    };
    upload.write(content.data).await?;
    upload.finish().await
}

pub(super) async fn create(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let create: Create<'_> = args(call)?;
    let content = content(services, call, create.content).await?;
    let labels = Labels { name: Some(create.name), content_type: Some(create.content_type) };
    let write = Write::Create { collection: create.collection, labels, content };
    Ok(found(services.data.file_write(&Access::of_script(call), &write).await?))
}

pub(super) async fn update(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let update: Update<'_> = args(call)?;
    let content = match update.content {
        Some(sent) => Some(content(services, call, sent).await?),
        None => None,
    };
    let labels = Labels { name: update.name, content_type: update.content_type };
    let write = Write::Update { collection: update.collection, id: update.id, labels, content };
    Ok(found(services.data.file_write(&Access::of_script(call), &write).await?))
}

pub(super) async fn head(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let Id { collection, id } = args(call)?;
    Ok(found(services.data.file_head(&Access::of_script(call), collection, id).await?))
}

pub(super) async fn read(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let read: Read<'_> = args(call)?;
    let row = services.data.file_head(&Access::of_script(call), read.collection, read.id).await?;
    let Some(row) = row else { return Ok(Reply::success(&FoundPart { part: None })) };
    let version = row.version.cast_unsigned();
    if read.version != 0 && read.version != version {
        return Err(CallError::new(CallCode::Conflict, "the file was changed while it was read"));
    }
    let data = services.data.file_part(&row, read.offset).await?;
    let part = Part { size: row.size.cast_unsigned(), version, data: &data };
    Ok(Reply::success(&FoundPart { part: Some(part) }))
}

pub(super) async fn delete(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let Id { collection, id } = args(call)?;
    let write = Write::Delete { collection, id };
    let existed = services.data.file_write(&Access::of_script(call), &write).await?.is_some();
    Ok(Reply::success(&Deleted { existed }))
}

pub(super) async fn list(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let List { collection, limit, after } = args(call)?;
    let page = services.data.file_list(&Access::of_script(call), collection, after, limit).await?;
    let texts: Vec<Texts> = page.files.into_iter().map(Texts::of).collect();
    let files = texts.iter().map(Texts::as_meta).collect();
    Ok(Reply::success(&Page { files, has_more: page.has_more }))
}

pub(super) async fn url(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let link: Link<'_> = args(call)?;
    let access = Access::of_script(call);
    let Some(row) = services.data.file_head(&access, link.collection, link.id).await? else {
        return Ok(Reply::success(&Linked { url: None }));
    };
    let token = services.data.file_link(&access, (link.collection, row.id), link.expires_s).await?;
    let url = format!("{}/api/v1/files/{token}", services.public_url);
    Ok(Reply::success(&Linked { url: Some(&url) }))
}

fn found(row: Option<FileRow>) -> Reply {
    let texts = row.map(Texts::of);
    Reply::success(&Found { file: texts.as_ref().map(Texts::as_meta) })
}

/// A row with what the guest gets as text.
struct Texts {
    row: FileRow,
    id: String,
    checksum: String,
    created_at: String,
    updated_at: String,
}

impl Texts {
    fn of(row: FileRow) -> Self {
        Self {
            id: row.id.to_string(),
            checksum: row.checksum.iter().map(|byte| format!("{byte:02x}")).collect(),
            created_at: rfc3339(row.created_at),
            updated_at: rfc3339(row.updated_at),
            row,
        }
    }

    fn as_meta(&self) -> Meta<'_> {
        Meta {
            id: &self.id,
            name: &self.row.name,
            content_type: &self.row.content_type,
            size: self.row.size.cast_unsigned(),
            checksum: &self.checksum,
            version: self.row.version.cast_unsigned(),
            created_at: &self.created_at,
            updated_at: &self.updated_at,
        }
    }
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
