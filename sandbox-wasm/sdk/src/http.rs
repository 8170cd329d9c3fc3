//! `http`: requests to the world, which the parent makes.

use rhai::{Array, Dynamic, Engine, Map, Module};
use shared::host_call::HostOp;
use shared::host_call::http::{BEHIND_SECRET, Request, Response};
use shared::http::PairBlock;

use crate::secrets::Handle;
use crate::{Result, convert, failure, host, invalid, message, url};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("get", |url: &str| bare("GET", url, &Map::new()));
    module.set_native_fn("get", |url: &str, options: Map| bare("GET", url, &options));
    module.set_native_fn("head", |url: &str| bare("HEAD", url, &Map::new()));
    module.set_native_fn("head", |url: &str, options: Map| bare("HEAD", url, &options));
    module.set_native_fn("delete", |url: &str| bare("DELETE", url, &Map::new()));
    module.set_native_fn("delete", |url: &str, options: Map| bare("DELETE", url, &options));
    module.set_native_fn("post", |url: &str, body: Dynamic| send("POST", url, &body, &Map::new()));
    module.set_native_fn("post", |url: &str, body: Dynamic, options: Map| send("POST", url, &body, &options));
    module.set_native_fn("put", |url: &str, body: Dynamic| send("PUT", url, &body, &Map::new()));
    module.set_native_fn("put", |url: &str, body: Dynamic, options: Map| send("PUT", url, &body, &options));
    module.set_native_fn("patch", |url: &str, body: Dynamic| send("PATCH", url, &body, &Map::new()));
    module
        .set_native_fn("patch", |url: &str, body: Dynamic, options: Map| send("PATCH", url, &body, &options));
    module.set_native_fn("post_form", |url: &str, form: Map| post_form(url, &form, &Map::new()));
    module.set_native_fn("post_form", |url: &str, form: Map, options: Map| post_form(url, &form, &options));
    module.set_native_fn("request", |method: &str, url: &str, body: Dynamic, options: Map| {
        send(&method.to_ascii_uppercase(), url, &body, &options)
    });
    engine.register_static_module("http", module.into());
}

fn bare(method: &str, url: &str, options: &Map) -> Result<Map> {
    exchange(method, url, Vec::new(), None, options)
}

fn send(method: &str, url: &str, body: &Dynamic, options: &Map) -> Result<Map> {
    let (bytes, content_type) = bytes_of(body)?;
    exchange(method, url, bytes, content_type, options)
}

fn post_form(to: &str, form: &Map, options: &Map) -> Result<Map> {
    exchange("POST", to, url::build_query(form)?.into_bytes(), Some(FORM), options)
}

/// Text and bytes go out as they are, anything else as JSON.
fn bytes_of(body: &Dynamic) -> Result<(Vec<u8>, Option<&'static str>)> {
    if body.is_unit() {
        return Ok((Vec::new(), None));
    }
    if let Ok(text) = body.as_immutable_string_ref() {
        return Ok((text.as_bytes().to_vec(), Some(TEXT)));
    }
    if let Ok(blob) = body.as_blob_ref() {
        return Ok((blob.to_vec(), Some(BYTES)));
    }
    let mut json = Vec::new();
    convert::write_json(&mut json, body).map_err(|error| failure("invalid_value", error.to_string()))?;
    Ok((json, Some(JSON)))
}

fn exchange(method: &str, to: &str, body: Vec<u8>, content_type: Option<&str>, options: &Map) -> Result<Map> {
    let options = Options::of(options, content_type)?;
    let to = options.address(to)?;
    let answer = host::call(
        HostOp::HttpSend,
        &Request {
            method,
            url: &to,
            headers: options.headers.as_bytes(),
            secret_headers: options.secret_headers.as_bytes(),
            body: &body,
            timeout_ms: options.timeout_ms,
            follows: options.follows,
        },
    )?;
    let Response { status, url, headers, body } = answer.read();
    let mut response = Map::new();
    response.insert("status".into(), i64::from(status).into());
    response.insert("url".into(), url.to_owned().into());
    response.insert("body".into(), message::body(message::content_type(headers), body));
    response.insert("body_raw".into(), message::text_or_blob(body));
    response.insert("headers".into(), message::headers(headers).into());
    Ok(response)
}

/// What a request may say besides.
#[derive(Default)]
struct Options {
    headers: PairBlock,
    secret_headers: PairBlock,
    query: Option<String>,
    timeout_ms: u32,
    follows: bool,
}

impl Options {
    fn of(given: &Map, content_type: Option<&str>) -> Result<Self> {
        let mut options = Self { follows: true, ..Self::default() };
        let mut has_content_type = false;
        for (name, value) in given {
            match name.as_str() {
                "headers" => {
                    let headers = value.read_lock::<Map>().ok_or_else(|| invalid("headers is a map"))?;
                    for (name, value) in headers.iter() {
                        has_content_type |= name.eq_ignore_ascii_case("content-type");
                        options.push(name, value)?;
                    }
                }
                "query" => {
                    let query = value.read_lock::<Map>().ok_or_else(|| invalid("query is a map"))?;
                    options.query = Some(url::build_query(&query)?);
                }
                "timeout_ms" => {
                    let ms = value.as_int().ok().and_then(|ms| u32::try_from(ms).ok()).filter(|ms| *ms > 0);
                    options.timeout_ms = ms.ok_or_else(|| invalid("timeout_ms is a number above 0"))?;
                }
                "follow" => {
                    options.follows = value.as_bool().map_err(|_| invalid("follow is true or false"))?;
                }
                other => return Err(invalid(format!("there is no option {other}"))),
            }
        }
        if let Some(content_type) = content_type.filter(|_| !has_content_type) {
            options.headers.push(b"content-type", content_type.as_bytes());
        }
        Ok(options)
    }

    /// An array sets the header once for each element.
    fn push(&mut self, name: &str, value: &Dynamic) -> Result<()> {
        if let Some(values) = value.read_lock::<Array>() {
            return values.iter().try_for_each(|value| self.push(name, value));
        }
        if let Some(handle) = value.read_lock::<Handle>() {
            let mut template = handle.name.as_bytes().to_vec();
            template.push(BEHIND_SECRET);
            template.extend_from_slice(handle.around.as_bytes());
            self.secret_headers.push(name.as_bytes(), &template);
            return Ok(());
        }
        if let Some(what) = convert::no_data(value) {
            return Err(invalid(format!("header {name} is {what}, not text")));
        }
        if value.is_map() || value.is_blob() || value.is_unit() {
            return Err(invalid(format!("header {name} is {}, not text", value.type_name())));
        }
        self.headers.push(name.as_bytes(), value.to_string().as_bytes());
        Ok(())
    }

    fn address(&self, to: &str) -> Result<String> {
        let Some(query) = self.query.as_deref().filter(|query| !query.is_empty()) else {
            return Ok(to.to_owned());
        };
        let (to, _) = to.split_once('#').unwrap_or((to, ""));
        let joint = if to.contains('?') { '&' } else { '?' };
        Ok(format!("{to}{joint}{query}"))
    }
}
