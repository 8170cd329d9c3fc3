//! `files::collection(name)`: contents with a name and a type, kept by the platform.

use rhai::{Array, Blob, Dynamic, Engine, ImmutableString, Map, Module};
use shared::host_call::HostOp;
use shared::host_call::files::{
    Append, Appended, Content, Create, Deleted, Found, FoundPart, Id, Link, Linked, List, Meta, Page, Read,
    Update,
};

use crate::options::Options;
use crate::{Result, failure, host};

/// Bytes of a content that are sent in one call, within what its arguments may be.
const PIECE_BYTES: usize = 768 << 10;
/// Files of a page unless a script says otherwise.
const LIMIT_DEFAULT: i64 = 100;
/// For how long a link is good unless a script says otherwise, in seconds.
const LINK_S_DEFAULT: u64 = 3_600;

/// The handle that scripts hold.
#[derive(Clone)]
struct Collection {
    name: ImmutableString,
}

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("collection", |name: ImmutableString| Ok(Collection { name }));
    engine.register_static_module("files", module.into());
    engine.register_type_with_name::<Collection>("FilesCollection");
    engine.register_fn("create", |files: &mut Collection, file: Map| files.create(&file));
    engine.register_fn("head", |files: &mut Collection, id: &str| files.head(id));
    engine.register_fn("get", |files: &mut Collection, id: &str| files.get(id));
    engine.register_fn("update", |files: &mut Collection, id: &str, file: Map| files.update(id, &file));
    engine.register_fn("delete", |files: &mut Collection, id: &str| files.delete(id));
    engine.register_fn("list", |files: &mut Collection| files.list(&Map::new()));
    engine.register_fn("list", |files: &mut Collection, options: Map| files.list(&options));
    engine.register_fn("url", |files: &mut Collection, id: &str| files.url(id, &Map::new()));
    engine.register_fn("url", |files: &mut Collection, id: &str, options: Map| files.url(id, &options));
}

impl Collection {
    /// `create(#{name, content_type, data})` → the file's map.
    fn create(&self, file: &Map) -> Result<Dynamic> {
        let mut options = Options::new("create", file);
        let name = options.text("name")?;
        let content_type = options.text("content_type")?;
        let data = bytes(options.value("data"))?;
        options.finish()?;
        let missing = |what| failure("invalid_argument", format!("create: {what} is missing"));
        let name = name.ok_or_else(|| missing("name"))?;
        let content_type = content_type.unwrap_or_else(|| "application/octet-stream".into());
        let data = data.ok_or_else(|| missing("data"))?;
        let content = send(&data)?;
        let create = Create { collection: &self.name, name: &name, content_type: &content_type, content };
        let answer = host::call(HostOp::FilesCreate, &create)?;
        Ok(answer.read::<Found<'_>>().file.as_ref().map_or(Dynamic::UNIT, map))
    }

    fn update(&self, id: &str, file: &Map) -> Result<Dynamic> {
        let mut options = Options::new("update", file);
        let name = options.text("name")?;
        let content_type = options.text("content_type")?;
        let data = bytes(options.value("data"))?;
        options.finish()?;
        let content = data.as_deref().map(send).transpose()?;
        let update = Update {
            collection: &self.name,
            id,
            name: name.as_deref(),
            content_type: content_type.as_deref(),
            content,
        };
        let answer = host::call(HostOp::FilesUpdate, &update)?;
        Ok(answer.read::<Found<'_>>().file.as_ref().map_or(Dynamic::UNIT, map))
    }

    fn head(&self, id: &str) -> Result<Dynamic> {
        let answer = host::call(HostOp::FilesHead, &Id { collection: &self.name, id })?;
        Ok(answer.read::<Found<'_>>().file.as_ref().map_or(Dynamic::UNIT, map))
    }

    fn get(&self, id: &str) -> Result<Dynamic> {
        let mut content = Blob::new();
        let mut version = 0;
        loop {
            let read = Read { collection: &self.name, id, offset: content.len() as u64, version };
            let answer = host::call(HostOp::FilesRead, &read)?;
            let Some(part) = answer.read::<FoundPart<'_>>().part else {
                return Ok(Dynamic::UNIT);
            };
            version = part.version;
            content.extend_from_slice(part.data);
            if part.data.is_empty() || content.len() as u64 >= part.size {
                return Ok(Dynamic::from_blob(content));
            }
        }
    }

    fn delete(&self, id: &str) -> Result<bool> {
        let Deleted { existed } = host::call(HostOp::FilesDelete, &Id { collection: &self.name, id })?.read();
        Ok(existed)
    }

    fn list(&self, options: &Map) -> Result<Map> {
        let mut options = Options::new("list", options);
        let limit = options.whole("limit")?.unwrap_or(LIMIT_DEFAULT);
        let after = options.text("cursor")?.unwrap_or_default();
        options.finish()?;
        let limit = u32::try_from(limit).unwrap_or(0);
        let answer = host::call(HostOp::FilesList, &List { collection: &self.name, limit, after: &after })?;
        let Page { files, has_more } = answer.read();
        let mut page = Map::new();
        let cursor = files.last().filter(|_| has_more).map_or(Dynamic::UNIT, |last| last.id.into());
        page.insert("cursor".into(), cursor);
        page.insert("items".into(), files.iter().map(map).collect::<Array>().into());
        Ok(page)
    }

    fn url(&self, id: &str, options: &Map) -> Result<Dynamic> {
        let mut options = Options::new("url", options);
        let seconds = options.seconds("expires")?.map_or(LINK_S_DEFAULT, |ms| ms.div_ceil(1_000));
        options.finish()?;
        let expires_s = u32::try_from(seconds).unwrap_or(u32::MAX);
        let answer = host::call(HostOp::FilesUrl, &Link { collection: &self.name, id, expires_s })?;
        Ok(answer.read::<Linked<'_>>().url.map_or(Dynamic::UNIT, Into::into))
    }
}

/// Sends all of a content but what fits into the call that makes the file.
fn send(data: &[u8]) -> Result<Content<'_>> {
    let mut upload = 0;
    let mut rest = data;
    while rest.len() > PIECE_BYTES {
        let (piece, later) = rest.split_at(PIECE_BYTES);
        let answer: Appended = host::call(HostOp::FilesAppend, &Append { upload, data: piece })?.read();
        upload = answer.upload;
        rest = later;
    }
    Ok(Content { upload, data: rest })
}

/// A content as scripts have it: a blob or a text.
fn bytes(value: Option<&Dynamic>) -> Result<Option<Vec<u8>>> {
    let Some(value) = value else { return Ok(None) };
    if let Ok(blob) = value.as_blob_ref() {
        return Ok(Some(blob.to_vec()));
    }
    match value.as_immutable_string_ref() {
        Ok(text) => Ok(Some(text.as_bytes().to_vec())),
        Err(_) => Err(failure("invalid_argument", "data must be a blob or a string")),
    }
}

fn map(meta: &Meta<'_>) -> Dynamic {
    let mut map = Map::new();
    for (name, text) in [
        ("id", meta.id),
        ("name", meta.name),
        ("content_type", meta.content_type),
        ("checksum", meta.checksum),
        ("created_at", meta.created_at),
        ("updated_at", meta.updated_at),
    ] {
        map.insert(name.into(), text.into());
    }
    map.insert("size".into(), (meta.size as i64).into());
    map.insert("version".into(), (meta.version as i64).into());
    map.into()
}
