//! `email::send(#{to, subject, text, …})`: mail, which the parent hands to the operator's server.

use rhai::{Array, Dynamic, Engine, ImmutableString, Map, Module};
use shared::host_call::HostOp;
use shared::host_call::email::{Attachment, Send, Sent};

use crate::options::Options;
use crate::{Result, host, invalid};

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("send", |mail: Map| send(&mail));
    engine.register_static_module("email", module.into());
}

fn send(mail: &Map) -> Result<Map> {
    let mut options = Options::new("email::send", mail);
    let [to, cc, bcc] = ["to", "cc", "bcc"].map(|name| addresses(name, options.value(name)));
    let (to, cc, bcc) = (to?, cc?, bcc?);
    let (reply_to, from_name) = (options.text("reply_to")?, options.text("from_name")?);
    let (subject, text, html) = (options.text("subject")?, options.text("text")?, options.text("html")?);
    let files = options.value("attachments").map(files).transpose()?.unwrap_or_default();
    options.finish()?;
    let subject = subject.ok_or_else(|| invalid("email::send: subject is missing"))?;
    let send = Send {
        to: borrowed(&to),
        cc: borrowed(&cc),
        bcc: borrowed(&bcc),
        reply_to: reply_to.as_deref(),
        from_name: from_name.as_deref(),
        subject: &subject,
        text: text.as_deref(),
        html: html.as_deref(),
        attachments: files.iter().map(File::attachment).collect(),
    };
    let answer = host::call(HostOp::EmailSend, &send)?;
    let mut sent = Map::new();
    sent.insert("id".into(), answer.read::<Sent<'_>>().id.into());
    Ok(sent)
}

fn borrowed(texts: &[ImmutableString]) -> Vec<&str> {
    texts.iter().map(ImmutableString::as_str).collect()
}

/// One address, or an array of them.
fn addresses(name: &str, value: Option<&Dynamic>) -> Result<Vec<ImmutableString>> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let one = |value: &Dynamic| {
        let text = value.as_immutable_string_ref().map(|text| text.clone());
        text.map_err(|_| invalid(format!("email::send: {name} must be an address or an array of them")))
    };
    match value.read_lock::<Array>() {
        Some(array) => array.iter().map(one).collect(),
        None => Ok(vec![one(value)?]),
    }
}

/// What an attachment is made of, out of the map in which it came.
struct File {
    name: ImmutableString,
    content_type: Option<ImmutableString>,
    content: Vec<u8>,
    is_text: bool,
}

fn files(value: &Dynamic) -> Result<Vec<File>> {
    let array = value.read_lock::<Array>();
    let array = array.ok_or_else(|| invalid("email::send: attachments must be an array"))?;
    array.iter().map(file).collect()
}

fn file(value: &Dynamic) -> Result<File> {
    let map = value.read_lock::<Map>();
    let map = map.ok_or_else(|| invalid("email::send: an attachment must be a map"))?;
    let mut options = Options::new("an attachment", &map);
    let (name, content_type) = (options.text("name")?, options.text("content_type")?);
    let content = options.value("content");
    options.finish()?;
    let missing = |what| invalid(format!("email::send: the {what} of an attachment is missing"));
    let content = content.ok_or_else(|| missing("content"))?;
    Ok(File {
        name: name.ok_or_else(|| missing("name"))?,
        content_type,
        content: crate::with_bytes(content, <[u8]>::to_vec)?,
        is_text: content.is_string(),
    })
}

impl File {
    fn attachment(&self) -> Attachment<'_> {
        let default = if self.is_text { TEXT } else { BYTES };
        let content_type = self.content_type.as_deref().unwrap_or(default);
        Attachment { name: &self.name, content_type, content: &self.content }
    }
}
