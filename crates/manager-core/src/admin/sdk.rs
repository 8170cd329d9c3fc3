//! What scripts can call, for editors: everybody may read it.

use axum::Json as JsonBody;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::header;
use schemars::JsonSchema;
use serde::Serialize;
use shared::SDK_VERSION;
use shared::sdk::{self, NAMESPACES, Namespace};

use super::problem::ApiError;

/// Every namespace with its functions.
#[derive(Serialize, JsonSchema)]
pub(super) struct Reference {
    sdk_version: &'static str,
    namespaces: &'static [Namespace],
}

pub(super) async fn reference() -> JsonBody<Reference> {
    JsonBody(Reference { sdk_version: SDK_VERSION, namespaces: &NAMESPACES })
}

pub(super) async fn definitions(Path(file): Path<String>) -> Result<Response, ApiError> {
    let namespace = file.strip_suffix(".d.rhai").and_then(sdk::namespace);
    let namespace = namespace.ok_or_else(|| ApiError::not_found("there is no such namespace"))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], namespace.source).into_response())
}
