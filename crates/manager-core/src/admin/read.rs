//! Reads requests: JSON bodies and query parameters. Each refusal says what is wrong with which
//! field.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use http::Extensions;
use http::header::{self, HeaderMap};
use http::request::Parts;
use http_body_util::BodyExt;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use shared::fault::Code;
use shared::http::{BodyRoom, BodyTooSlow};
use shared::ports::NoRoom;

use super::problem::ApiError;
use crate::auth::Principal;

/// Body of an admin request: a script of the largest size, escaped as JSON, with room to spare.
pub(super) const JSON_BYTES_MAX: usize = 2 << 20;

/// A JSON body of at most so many bytes.
pub(super) struct Json<T, const BYTES_MAX: usize = JSON_BYTES_MAX>(pub(super) T);

impl<S: Sync, T: DeserializeOwned, const BYTES_MAX: usize> FromRequest<S> for Json<T, BYTES_MAX> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            let detail = "the body must be JSON, with content-type: application/json";
            return Err(ApiError::new(Code::UnsupportedMedia, detail));
        }
        let body = body(request, BYTES_MAX).await?;
        let text = str::from_utf8(&body).map_err(|error| {
            let detail = format!("the body is not UTF-8: the first bad byte is at {}", error.valid_up_to());
            ApiError::new(Code::BadRequest, detail)
        })?;
        parse(text).map(Self)
    }
}

/// The whole body, up to a limit.
pub(super) async fn body(request: Request, limit: usize) -> Result<Vec<u8>, ApiError> {
    let (parts, body) = request.into_parts();
    whole(&parts.extensions, body, limit).await
}

/// The same of a request in two parts.
pub(super) async fn whole(
    extensions: &Extensions,
    mut body: Body,
    limit: usize,
) -> Result<Vec<u8>, ApiError> {
    let too_large =
        || ApiError::new(Code::BodyTooLarge, format!("the body may be at most {limit} bytes long"));
    // Looked at before the body is asked for, which is what sends a client `100 Continue`.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        let bytes = whole.len() + data.len();
        if bytes > limit {
            return Err(too_large());
        }
        // As it comes, and not as the client says: who sends little must not take the room of much.
        hold(extensions, bytes)?;
        // Most bodies come in one piece, and one that was read before a handler always does.
        if whole.is_empty() {
            whole = data.into();
        } else {
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole)
}

/// Asks for room for so much of a body. The caller is in the extensions when the gate has let them in.
fn hold(extensions: &Extensions, bytes: usize) -> Result<(), ApiError> {
    // The server in front of the API gives every request some.
    let Some(BodyRoom(room)) = extensions.get::<BodyRoom>() else { return Ok(()) };
    let person = extensions.get().map(|principal: &Principal| principal.user.id);
    let held = room.hold(person, bytes);
    held.map_err(|full: NoRoom| ApiError::new(Code::Overloaded, full.to_string()).retry_after(1))
}

fn broken(error: axum::Error) -> ApiError {
    if is_too_slow(&error) {
        return ApiError::new(Code::RequestTimeout, BodyTooSlow.to_string());
    }
    ApiError::new(Code::BadRequest, "the body ended too early")
}

/// The server in front of the API says so; what is between the two wraps its error.
fn is_too_slow(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<BodyTooSlow>() {
            return true;
        }
        next = error.source();
    }
    false
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    is_json_type(value)
}

/// Whether a content type is JSON, such as `application/problem+json; charset=utf-8`.
pub(super) fn is_json_type(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    if text.trim_start().starts_with('[') {
        return Err(ApiError::invalid("the body is a list; it must be an object"));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if !inner.is_data() {
            return ApiError::new(Code::BadRequest, format!("the body is not valid JSON: {inner}"));
        }
        match path.as_str() {
            "." => ApiError::invalid(inner.to_string()),
            field => ApiError::invalid(format!("{field}: {inner}")).with("field", field),
        }
    })?;
    let end = deserializer.end();
    end.map_err(|error| ApiError::new(Code::BadRequest, format!("the body is not valid JSON: {error}")))?;
    Ok(value)
}

/// Reads a field that is an object. Without this a list would do too: serde takes one for a struct,
/// field by field.
pub(super) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_map(Object(PhantomData))
}

struct Object<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields))
    }
}

/// The query of the address.
pub(super) struct Params<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Query(params) = Query::try_from_uri(&parts.uri)
            .map_err(|error| ApiError::invalid(format!("a query parameter is wrong: {error}")))?;
        Ok(Self(params))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(rename = "n")]
        _n: u8,
    }

    fn refusal(text: &str) -> (Code, String) {
        let error = parse::<Sample>(text).unwrap_err();
        (error.code, error.detail.into_owned())
    }

    #[test]
    fn malformed_json_and_wrong_fields_are_told_apart() {
        assert_eq!(refusal("{").0, Code::BadRequest);
        assert_eq!(refusal("{\"n\":1} x").0, Code::BadRequest);
        let (code, detail) = refusal("{\"n\":300}");
        assert_eq!(code, Code::InvalidInput);
        assert!(detail.starts_with("n: invalid value: integer `300`"), "{detail}");
        let (code, detail) = refusal("{\"n\":1,\"extra\":2}");
        assert_eq!(code, Code::InvalidInput);
        assert!(detail.contains("unknown field `extra`"), "{detail}");
        assert!(parse::<Sample>("{\"n\":1}").is_ok());
        // What serde would take for the fields in their order.
        assert_eq!(refusal(" [1]").0, Code::InvalidInput);
    }

    #[test]
    fn json_types_are_recognised_with_parameters_and_suffix() {
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"] {
            assert!(is_json_type(good), "{good}");
        }
        for bad in ["", "text/plain", "text/json", "application/x-www-form-urlencoded", "image/svg+json"] {
            assert!(!is_json_type(bad), "{bad}");
        }
    }
}
