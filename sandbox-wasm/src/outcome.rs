//! From what a script returns or throws to what the worker is told.

use rhai::{Array, Dynamic, EvalAltResult, Map};
use sdk::convert;
use shared::guest_abi::GuestOutput;
use shared::http::PairBlock;
use shared::limits::ERROR_MESSAGE_BYTES_MAX;

use crate::engine::line_and_column;

/// A [`GuestOutput`] that owns its parts.
pub(crate) enum Outcome {
    Response { status: u16, headers: Vec<u8>, body: Vec<u8> },
    ScriptError { script: String, line: u32, column: u32, message: String, is_fatal: bool },
    InvalidResponse(String),
}

impl Outcome {
    pub(crate) fn as_output(&self) -> GuestOutput<'_> {
        match self {
            Self::Response { status, headers, body } => {
                GuestOutput::Response { status: *status, headers, body }
            }
            Self::ScriptError { script, line, column, message, is_fatal } => {
                let is_fatal = *is_fatal;
                GuestOutput::ScriptError { script, line: *line, column: *column, message, is_fatal }
            }
            Self::InvalidResponse(message) => GuestOutput::InvalidResponse { message },
        }
    }

    /// A map with `statusCode` is a response; any other value is a 200 with that value as JSON.
    pub(crate) fn from_value(value: Dynamic) -> Self {
        let value = value.flatten();
        match value.read_lock::<Map>() {
            Some(map) if map.contains_key("statusCode") => {
                return respond(&map).unwrap_or_else(Self::InvalidResponse);
            }
            _ => {}
        }
        let mut body = Vec::new();
        match convert::write_json(&mut body, &value) {
            Ok(()) => {
                let mut headers = PairBlock::default();
                headers.push(b"content-type", b"application/json");
                Self::Response { status: 200, headers: headers.into_bytes(), body }
            }
            Err(error) => Self::InvalidResponse(format!("the result cannot be written as JSON: {error}")),
        }
    }

    /// `throw #{statusCode: …}` is a response too; every other error is the script's failure.
    pub(crate) fn from_error(script: &str, mut error: EvalAltResult) -> Self {
        let script = origin(&error).unwrap_or(script).to_owned();
        match innermost(&mut error) {
            EvalAltResult::ErrorRuntime(value, _) if is_response(value) => Self::from_value(value.clone()),
            EvalAltResult::Exit(value, _) => Self::from_value(value.clone()),
            inner => {
                let is_fatal = is_fatal(inner);
                let (line, column) = line_and_column(inner.take_position());
                let message = truncate(inner.to_string());
                Self::ScriptError { script, line, column, message, is_fatal }
            }
        }
    }
}

/// The module whose function raised the error, if it was one's: positions are in its source.
fn origin(error: &EvalAltResult) -> Option<&str> {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, source, inner, _) => {
            origin(inner).or(Some(source.as_str()).filter(|source| !source.is_empty()))
        }
        _ => None,
    }
}

/// The error that was raised, below the calls it passed through.
fn innermost(error: &mut EvalAltResult) -> &mut EvalAltResult {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) | EvalAltResult::ErrorInModule(_, inner, _) => {
            innermost(inner)
        }
        other => other,
    }
}

fn is_response(value: &Dynamic) -> bool {
    value.read_lock::<Map>().is_some_and(|map| map.contains_key("statusCode"))
}

/// `throw #{retry: false, …}`: the script knows that trying again is of no use.
fn is_fatal(error: &EvalAltResult) -> bool {
    let EvalAltResult::ErrorRuntime(value, _) = error else { return false };
    value.read_lock::<Map>().is_some_and(|map| {
        map.get("retry").and_then(|retry| retry.as_bool().ok()).is_some_and(|retry| !retry)
    })
}

fn respond(map: &Map) -> Result<Outcome, String> {
    let status =
        map["statusCode"].as_int().map_err(|kind| format!("statusCode is {kind}, not an integer"))?;
    // Whether the number is a status that may be sent is the parent's decision.
    let status = u16::try_from(status).map_err(|_| format!("statusCode {status} is not an HTTP status"))?;
    let mut headers = PairBlock::default();
    let mut has_content_type = false;
    if let Some(value) = map.get("headers").filter(|value| !value.is_unit()) {
        let given = value.read_lock::<Map>().ok_or("headers is not a map")?;
        for (name, value) in given.iter() {
            has_content_type |= name.eq_ignore_ascii_case("content-type");
            push_header(&mut headers, name, value)?;
        }
    }
    let (body, content_type) = body(map.get("body"))?;
    if !has_content_type && let Some(content_type) = content_type {
        headers.push(b"content-type", content_type.as_bytes());
    }
    Ok(Outcome::Response { status, headers: headers.into_bytes(), body })
}

/// An array sets the header once for each element, which is how several cookies are set.
fn push_header(headers: &mut PairBlock, name: &str, value: &Dynamic) -> Result<(), String> {
    if let Some(values) = value.read_lock::<Array>() {
        return values.iter().try_for_each(|value| push_header(headers, name, value));
    }
    if let Some(what) = convert::no_data(value) {
        return Err(format!("header {name} is {what}, not a string or number"));
    }
    if value.is_map() || value.is_blob() || value.is_unit() {
        return Err(format!("header {name} is {}, not a string or number", value.type_name()));
    }
    headers.push(name.as_bytes(), value.to_string().as_bytes());
    Ok(())
}

/// The bytes of a body, with the content type it has unless the script sets one.
fn body(value: Option<&Dynamic>) -> Result<(Vec<u8>, Option<&'static str>), String> {
    let Some(value) = value.filter(|value| !value.is_unit()) else {
        return Ok((Vec::new(), None));
    };
    if let Ok(text) = value.as_immutable_string_ref() {
        return Ok((text.as_bytes().to_vec(), Some("text/plain; charset=utf-8")));
    }
    if let Ok(blob) = value.as_blob_ref() {
        return Ok((blob.to_vec(), Some("application/octet-stream")));
    }
    let mut json = Vec::new();
    convert::write_json(&mut json, value)
        .map_err(|error| format!("body cannot be written as JSON: {error}"))?;
    Ok((json, Some("application/json")))
}

/// Cuts a message to what is kept of it.
pub(crate) fn truncate(mut message: String) -> String {
    if message.len() > ERROR_MESSAGE_BYTES_MAX {
        let end = message.floor_char_boundary(ERROR_MESSAGE_BYTES_MAX - '…'.len_utf8());
        message.truncate(end);
        message.push('…');
    }
    message
}
