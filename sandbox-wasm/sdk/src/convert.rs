//! Rhai values to and from the text forms that cross the wall.

use rhai::{Array, Dynamic, EvalAltResult, Map};
use serde::ser::{Error, Serialize, Serializer};

use crate::failure;
use crate::secrets::Handle;

/// Parses JSON into a script value. Integers that fit 64 bits stay integers.
#[inline]
pub fn parse_json(bytes: &[u8]) -> Result<Dynamic, serde_json::Error> {
    serde_json::from_slice(bytes)
}

/// Appends a value as JSON. Fails for what JSON cannot say: functions, numbers that are not finite, handles.
#[inline]
pub fn write_json(out: &mut Vec<u8>, value: &Dynamic) -> Result<(), serde_json::Error> {
    serde_json::to_writer(out, &Json(value))
}

/// A value as JSON text, for the calls that take one.
pub(crate) fn json_text(value: &Dynamic) -> Result<String, Box<EvalAltResult>> {
    let mut json = Vec::new();
    write_json(&mut json, value).map_err(|error| failure("invalid_value", error.to_string()))?;
    String::from_utf8(json).map_err(|error| failure("invalid_value", error.to_string()))
}

/// The value that a JSON text of the parent is.
pub(crate) fn from_json_text(json: &str) -> Result<Dynamic, Box<EvalAltResult>> {
    parse_json(json.as_bytes()).map_err(|error| failure("invalid_value", error.to_string()))
}

/// Like [`write_json`], in the form that the serializer gives it.
pub(crate) fn serialize_json<S: Serializer>(value: &Dynamic, serializer: S) -> Result<S::Ok, S::Error> {
    Json(value).serialize(serializer)
}

/// What a value is that is no data; Rhai itself would write the name of a function or, in Rust, of a type, which
/// nobody can have meant.
#[inline]
pub fn no_data(value: &Dynamic) -> Option<&'static str> {
    if value.is_fnptr() {
        return Some("a function");
    }
    if value.read_lock::<Handle>().is_some() {
        return Some("a secret's handle (only `headers` of an http request take one)");
    }
    // What a closure has captured is behind a cell.
    let is_variant = value.read_lock::<Dynamic>().is_some_and(|value| value.is_variant());
    is_variant.then_some("a collection, a range or the like")
}

/// A value as JSON.
struct Json<'a>(&'a Dynamic);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(value) = self;
        // serde_json itself would write null, which is found again as `()`.
        let is_endless = value.as_float().is_ok_and(|number| !number.is_finite());
        if let Some(what) = no_data(value).or(is_endless.then_some("a number that is not finite")) {
            return Err(S::Error::custom(format_args!("{what} has no JSON form")));
        }
        if let Some(array) = value.read_lock::<Array>() {
            return serializer.collect_seq(array.iter().map(Json));
        }
        if let Some(map) = value.read_lock::<Map>() {
            return serializer.collect_map(map.iter().map(|(name, value)| (name.as_str(), Json(value))));
        }
        value.serialize(serializer)
    }
}

/// A UUID in its usual form.
#[inline]
pub fn uuid_text(bytes: [u8; 16]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}
