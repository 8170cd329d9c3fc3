//! `url`: percent-encoding, query strings, and the parts of an address (RFC 3986).

use fluent_uri::UriRef;
use form_urlencoded::Serializer;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rhai::{Array, Dynamic, Engine, Map, Module};

use crate::{Result, convert, failure, invalid};

/// What `url::encode` changes: all but the unreserved characters of RFC 3986, section 2.3.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("encode", |text: &str| Ok(utf8_percent_encode(text, COMPONENT).to_string()));
    module.set_native_fn("decode", |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded.map(String::from).map_err(|error| failure("invalid_url", error.to_string()))
    });
    module.set_native_fn("parse", parse);
    module.set_native_fn("query", |values: Map| build_query(&values));
    module.set_native_fn("parse_query", |text: &str| Ok(parse_query(text)));
    engine.register_static_module("url", module.into());
}

fn parse(text: &str) -> Result<Map> {
    let uri = UriRef::parse(text).map_err(|error| failure("invalid_url", error.to_string()))?;
    let mut parts = Map::new();
    let mut set = |name: &str, value: Dynamic| parts.insert(name.into(), value);
    set("scheme", optional(uri.scheme().map(|scheme| scheme.as_str().to_ascii_lowercase())));
    let authority = uri.authority();
    set("userinfo", optional(authority.and_then(|part| part.userinfo()).map(|info| info.as_str())));
    set("host", optional(authority.map(|part| part.host().to_ascii_lowercase())));
    let port = authority.and_then(|part| part.port()).filter(|port| !port.as_str().is_empty());
    set(
        "port",
        match port.map(|port| port.as_str().parse::<u16>()) {
            Some(Ok(port)) => i64::from(port).into(),
            Some(Err(_)) => return Err(failure("invalid_url", "a port is at most 65535")),
            None => Dynamic::UNIT,
        },
    );
    set("path", uri.path().as_str().to_owned().into());
    set(
        "query",
        match uri.query() {
            Some(query) => parse_query(query.as_str()).into(),
            None => Map::new().into(),
        },
    );
    set("fragment", optional(uri.fragment().map(|fragment| fragment.as_str())));
    Ok(parts)
}

fn optional(text: Option<impl Into<String>>) -> Dynamic {
    text.map_or(Dynamic::UNIT, |text| Dynamic::from(text.into()))
}

/// Of a repeated name the first counts, as for `ctx.request.query`.
fn parse_query(text: &str) -> Map {
    let text = text.strip_prefix('?').unwrap_or(text);
    let mut map = Map::new();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        map.entry(name.as_ref().into()).or_insert_with(|| value.into_owned().into());
    }
    map
}

/// An array stands for a repeated name; `()` is left out.
pub(crate) fn build_query(values: &Map) -> Result<String> {
    let mut query = Serializer::new(String::new());
    for (name, value) in values {
        match value.read_lock::<Array>() {
            Some(values) => {
                for value in values.iter() {
                    append(&mut query, name, value)?;
                }
            }
            None => append(&mut query, name, value)?,
        }
    }
    Ok(query.finish())
}

fn append(query: &mut Serializer<'_, String>, name: &str, value: &Dynamic) -> Result<()> {
    if value.is_unit() {
        return Ok(());
    }
    if let Some(what) = convert::no_data(value) {
        return Err(invalid(format!("{name} is {what}, and a query cannot hold it")));
    }
    if value.is_map() || value.is_array() || value.is_blob() {
        return Err(invalid(format!("{name} is {}, which a query cannot hold", value.type_name())));
    }
    query.append_pair(name, &value.to_string());
    Ok(())
}
