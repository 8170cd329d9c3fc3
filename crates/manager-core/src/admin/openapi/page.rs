//! The document as it is served, and a page that shows it. Everything comes from this server: the page
//! may load nothing from elsewhere, and says so to the browser.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{self, HeaderValue};

use super::document::{Beside, openapi};

/// The page's own parts and the document, from this server; nothing else, and in nobody's frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

/// `/openapi.json` and `/docs`, below `/api/v1`.
pub(in crate::admin) fn router<S: Clone + Send + Sync + 'static>(beside: &[Beside]) -> Router<S> {
    let text: Arc<str> = openapi(beside).to_string().into();
    let document = move || {
        let text = Bytes::copy_from_slice(text.as_bytes());
        async move { served("application/json", text) }
    };
    Router::new()
        .route("/api/v1/openapi.json", get(document))
        .route("/api/v1/docs", get(async || served("text/html; charset=utf-8", include_str!("page.html"))))
        .route(
            "/api/v1/docs/page.js",
            get(async || served("text/javascript; charset=utf-8", include_str!("page.js"))),
        )
        .route(
            "/api/v1/docs/page.css",
            get(async || served("text/css; charset=utf-8", include_str!("page.css"))),
        )
}

fn served(content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (headers, body.into()).into_response()
}
