//! The request of a test run, made up from what its caller says of it.

use std::collections::BTreeMap;

use http::header::{self, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;
use shared::guest_abi::GuestHttp;
use shared::http::PairBlock;
use shared::path::Captured;

use super::problem::ApiError;

/// The request to make up.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TestBody {
    method: Option<String>,
    path: Option<String>,
    headers: BTreeMap<String, String>,
    query: Option<Query>,
    /// A string is sent as it is, anything else as JSON.
    body: Option<Box<RawValue>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Query {
    Text(String),
    Pairs(BTreeMap<String, String>),
}

/// A made-up request in the forms that the guest takes.
pub(super) struct MadeUp {
    pub(super) method: String,
    pub(super) path: String,
    query: PairBlock,
    headers: PairBlock,
    body: Vec<u8>,
}

impl MadeUp {
    pub(super) fn from_body(body: TestBody) -> Result<Self, ApiError> {
        let has_body = body.body.is_some();
        let (content, is_json) = content(body.body)?;
        let method = body.method.unwrap_or_else(|| if has_body { "POST" } else { "GET" }.to_owned());
        let method = http::Method::from_bytes(method.to_ascii_uppercase().as_bytes())
            .map_err(|_| ApiError::invalid("method is no HTTP method").with("field", "method"))?;
        let full_path = body.path.unwrap_or_else(|| "/".to_owned());
        let (path, query_of_path) = full_path.split_once('?').unwrap_or((&full_path, ""));
        if !path.starts_with('/') {
            return Err(ApiError::invalid("path begins with '/'").with("field", "path"));
        }
        let mut query = PairBlock::from_urlencoded(query_of_path);
        match body.query {
            Some(Query::Text(text)) => query = PairBlock::from_urlencoded(text.trim_start_matches('?')),
            Some(Query::Pairs(pairs)) => {
                pairs.iter().for_each(|(name, value)| query.push(name.as_bytes(), value.as_bytes()));
            }
            None => {}
        }
        let headers = made_up_headers(body.headers, is_json)?;
        Ok(Self { method: method.to_string(), path: path.to_owned(), query, headers, body: content })
    }

    pub(super) fn guest_http<'a>(&'a self, captured: &'a Captured, remote_ip: &'a str) -> GuestHttp<'a> {
        GuestHttp {
            method: &self.method,
            path: &self.path,
            rest: &captured.rest,
            remote_ip,
            params: captured.params.as_bytes(),
            query: self.query.as_bytes(),
            headers: self.headers.as_bytes(),
            body: &self.body,
        }
    }
}

/// The body's bytes, and whether they are JSON.
fn content(body: Option<Box<RawValue>>) -> Result<(Vec<u8>, bool), ApiError> {
    let Some(body) = body else { return Ok((Vec::new(), false)) };
    if body.get().starts_with('"') {
        let text: String = serde_json::from_str(body.get())
            .map_err(|error| ApiError::invalid(format!("body: {error}")).with("field", "body"))?;
        return Ok((text.into_bytes(), false));
    }
    Ok((body.get().as_bytes().to_vec(), true))
}

fn made_up_headers(given: BTreeMap<String, String>, is_json: bool) -> Result<PairBlock, ApiError> {
    let mut block = PairBlock::default();
    let mut has_type = false;
    for (name, value) in given {
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(&value).ok());
        let Some((name, value)) = parsed else {
            let shown: String = name.chars().take(80).collect();
            return Err(ApiError::invalid(format!("header {shown:?} is malformed")).with("field", "headers"));
        };
        has_type |= name == header::CONTENT_TYPE;
        block.push(name.as_str().as_bytes(), value.as_bytes());
    }
    if is_json && !has_type {
        block.push(b"content-type", b"application/json");
    }
    Ok(block)
}
