//! Errors as `application/problem+json`.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use http_body_util::Full;
use shared::fault::{Code, PROBLEM_JSON, Problem};
use shared::route::RateLimit;

use crate::routing::Miss;

/// What every answer names, so that a user can ask about it.
pub(super) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Why a request gets no answer from a script.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: Code,
    /// Fit for strangers' eyes.
    pub(super) detail: String,
    pub(super) allow: Vec<String>,
    pub(super) retry_after_s: Option<u32>,
    /// Whether the request had been carried out, whatever else its code says.
    pub(super) was_done: bool,
}

impl Failure {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), allow: Vec::new(), retry_after_s: None, was_done: false }
    }

    pub(super) fn into_response(self, request_id: &str) -> Response<Full<Bytes>> {
        let problem = Problem::new(self.code, &self.detail, request_id, ());
        let problem = if self.was_done { problem.unsafe_to_retry() } else { problem };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Full::new(body.into()));
        *response.status_mut() =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(value) = HeaderValue::from_str(request_id) {
            headers.insert(REQUEST_ID.clone(), value);
        }
        if self.code == Code::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Ok(value) = HeaderValue::from_str(&self.allow.join(", "))
            && !self.allow.is_empty()
        {
            headers.insert(ALLOW, value);
        }
        response
    }
}

/// Of a route that is called too often.
pub(super) fn too_many(limit: RateLimit, seconds: u32) -> Failure {
    let RateLimit { requests, per_s, .. } = limit;
    let detail = format!("this address takes {requests} requests in {per_s} s; try again in {seconds} s");
    Failure { retry_after_s: Some(seconds), ..Failure::new(Code::TooManyRequests, detail) }
}

/// Of an address that no route answers.
pub(super) fn missed(miss: Miss) -> Failure {
    match miss {
        Miss::NoRoute => Failure::new(Code::NoRoute, "the app on this host has no route for this path"),
        Miss::WrongMethod(allow) => Failure {
            allow,
            ..Failure::new(Code::MethodNotAllowed, "the route on this path answers other methods")
        },
    }
}
