//! What the server is, and what its errors mean.

use axum::Json as JsonBody;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::header;
use serde::Serialize;
use shared::SDK_VERSION;
use shared::wire::frame::PROTOCOL_VERSION;

use super::problem::ApiError;
use crate::store::migrations;

// `ERROR_PAGES`: code and text of each page under docs/errors.
include!(concat!(env!("OUT_DIR"), "/error_pages.rs"));

/// Version of the HTTP interface.
const API_VERSION: &str = "1";

#[derive(Serialize)]
pub(super) struct Versions {
    product: &'static str,
    sdk: &'static str,
    api: &'static str,
    schema: i64,
    wire: u16,
}

pub(super) async fn version() -> JsonBody<Versions> {
    JsonBody(Versions {
        product: env!("CARGO_PKG_VERSION"),
        sdk: SDK_VERSION,
        api: API_VERSION,
        schema: migrations::latest(),
        wire: PROTOCOL_VERSION,
    })
}

pub(super) async fn error_page(Path(code): Path<String>) -> Result<Response, ApiError> {
    let page = ERROR_PAGES.iter().find(|(known, _)| *known == code);
    let (_, text) = page.ok_or_else(|| ApiError::not_found("there is no such error code"))?;
    Ok(([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], *text).into_response())
}
