//! Changes that are done only to what the caller last saw: `ETag` out, `If-Match` in (RFC 9110).
//!
//! A tag is of a resource's state, not of an answer's bytes: a read and a change of the same resource
//! answer the same tag, whatever else they show. Handlers check inside the transaction that changes,
//! with the resource locked, so nobody comes between the look and the write.

use axum::Json as JsonBody;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};
use shared::fault::Code;

use super::openapi::{Answer, Argument, Operation};
use super::problem::ApiError;

/// Tags that one request may name; a client has one, a cache a few.
const TAGS_MAX: usize = 32;

/// Something that can be changed, and the part of it that a change changes.
pub(super) trait Resource {
    fn state(&self) -> &impl Serialize;

    /// The state's tag, a strong one: another state has another.
    fn etag(&self) -> String {
        etag_of(self.state())
    }
}

/// The tag of a state.
pub(super) fn etag_of(state: &impl Serialize) -> String {
    let state = serde_json::to_vec(state).unwrap_or_default();
    let hash = Sha256::digest(&state);
    let digits: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
}

/// An answer with the tag of what it shows.
pub(super) struct Tagged<T>(pub(super) T);

impl<T: Resource + Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let tag = HeaderValue::try_from(self.0.etag()).unwrap_or(HeaderValue::from_static("\"\""));
        ([(header::ETAG, tag)], JsonBody(self.0)).into_response()
    }
}

impl<T: JsonSchema> Answer for Tagged<T> {
    fn describe(operation: &mut Operation<'_>) {
        <JsonBody<T> as Answer>::describe(operation);
        operation.answer_header("ETag");
    }
}

impl<T: JsonSchema> Answer for (StatusCode, Tagged<T>) {
    fn describe(operation: &mut Operation<'_>) {
        <(StatusCode, JsonBody<T>) as Answer>::describe(operation);
        operation.answer_header("ETag");
    }
}

/// What must hold for the change to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Preconditions {
    if_match: Option<Wanted>,
    /// `If-None-Match: *`: only if there is no such thing yet.
    must_be_new: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Anything,
    OneOf(Vec<String>),
}

impl Preconditions {
    /// Refuses to go on unless what is there now is what the caller wants to change.
    pub(super) fn check(&self, current: Option<&impl Resource>) -> Result<(), ApiError> {
        let tag = current.map(Resource::etag);
        let holds = match (&self.if_match, &tag) {
            (None, _) | (Some(Wanted::Anything), Some(_)) => true,
            (Some(Wanted::OneOf(tags)), Some(tag)) => tags.contains(tag),
            (Some(_), None) => false,
        };
        if holds && !(self.must_be_new && tag.is_some()) {
            return Ok(());
        }
        let (detail, tag) = match tag {
            Some(tag) if self.must_be_new => ("it exists already, and If-None-Match is *", Some(tag)),
            Some(tag) => ("somebody changed it since it was read; read it again", Some(tag)),
            None => ("it does not exist, and If-Match wants it to", None),
        };
        Err(ApiError::new(Code::PreconditionFailed, detail).with("etag", tag))
    }

    /// Whether there must be nothing yet.
    pub(super) const fn ask_for_new(&self) -> bool {
        self.must_be_new
    }

    fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut wanted = Self::default();
        if let Some(text) = joined(headers, &header::IF_MATCH)? {
            wanted.if_match = Some(parse(&text)?);
        }
        match joined(headers, &header::IF_NONE_MATCH)?.as_deref() {
            None => {}
            Some("*") => wanted.must_be_new = true,
            Some(_) => {
                let detail = "If-None-Match may only be * here: the change is done if there is nothing yet";
                return Err(ApiError::new(Code::BadRequest, detail));
            }
        }
        Ok(wanted)
    }
}

/// All lines of a header as one list.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, ApiError> {
    let mut lines = headers.get_all(name).iter().peekable();
    if lines.peek().is_none() {
        return Ok(None);
    }
    let texts: Result<Vec<_>, _> = lines.map(HeaderValue::to_str).collect();
    let texts = texts.map_err(|_| malformed())?;
    Ok(Some(texts.join(",").trim().to_owned()))
}

/// `*`, or tags between quotation marks, of which there may be none. A weak tag never matches, because a change needs certainty.
fn parse(text: &str) -> Result<Wanted, ApiError> {
    if text == "*" {
        return Ok(Wanted::Anything);
    }
    let mut tags = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let strong = rest.strip_prefix("W/");
        let inner = strong.unwrap_or(rest).strip_prefix('"').ok_or_else(malformed)?;
        let (tag, after) = inner.split_once('"').ok_or_else(malformed)?;
        if strong.is_none() {
            tags.push(format!("\"{tag}\""));
        }
        if tags.len() > TAGS_MAX {
            return Err(malformed());
        }
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if after.is_empty() => after,
            None => return Err(malformed()),
        };
    }
    Ok(Wanted::OneOf(tags))
}

fn malformed() -> ApiError {
    let detail = "If-Match is * or the ETag of an answer, with its quotation marks";
    ApiError::new(Code::BadRequest, detail)
}

impl<S: Sync> FromRequestParts<S> for Preconditions {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::read(&parts.headers)
    }
}

impl Argument for Preconditions {
    fn describe(operation: &mut Operation<'_>) {
        operation.header(
            "If-Match",
            "The ETag that the resource must still have, or * for any.",
            r#"^(\*|"[0-9a-f]{32}")$"#,
        );
        operation.problems(&[Code::PreconditionFailed, Code::BadRequest]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Sample(u32);

    impl Resource for Sample {
        fn state(&self) -> &impl Serialize {
            &self.0
        }
    }

    fn wanted(name: HeaderName, value: &str) -> Result<Preconditions, ApiError> {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        Preconditions::read(&HeaderMap::from_iter([(name, value)]))
    }

    fn if_match(value: &str) -> Preconditions {
        wanted(header::IF_MATCH, value).unwrap()
    }

    #[test]
    fn only_the_state_that_was_seen_may_be_changed() {
        let (old, new) = (Sample(1), Sample(2));
        let tag = old.etag();
        assert_ne!(tag, new.etag());
        for good in [tag.clone(), "*".into(), format!("\"x\", {tag}"), format!("{tag},W/\"y\"")] {
            if_match(&good).check(Some(&old)).unwrap();
        }
        for bad in [format!("W/{tag}"), "\"x\"".into(), String::new(), new.etag()] {
            let error = if_match(&bad).check(Some(&old)).unwrap_err();
            assert_eq!((error.code, &error.extra["etag"]), (Code::PreconditionFailed, &tag.clone().into()));
        }
        assert!(if_match("*").check(None::<&Sample>).is_err());
        assert!(Preconditions::default().check(Some(&new)).is_ok());
    }

    #[test]
    fn what_must_be_new_may_not_exist() {
        let new_only = wanted(header::IF_NONE_MATCH, "*").unwrap();
        assert!(new_only.check(None::<&Sample>).is_ok());
        assert!(new_only.check(Some(&Sample(1))).is_err());
        assert!(wanted(header::IF_NONE_MATCH, "\"x\"").is_err());
    }

    #[test]
    fn a_header_that_is_no_list_of_tags_is_refused() {
        for bad in ["x", "\"x", "x\"", "\"a\" \"b\"", "'a'", "\"a\";", "ä"] {
            assert!(wanted(header::IF_MATCH, bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_refused(value in "[ -~\\x80-\\xff]{0,60}") {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                let _ = Preconditions::read(&HeaderMap::from_iter([(header::IF_MATCH, value)]));
            }
        }

        #[test]
        fn every_list_of_tags_is_read_whole(tags in proptest::collection::vec("[!#-~]{0,12}", 1..8)) {
            let text: Vec<_> = tags.iter().map(|tag| format!("\"{tag}\"")).collect();
            let read = if_match(&text.join(" , "));
            prop_assert_eq!(read.if_match, Some(Wanted::OneOf(text)));
        }
    }
}
