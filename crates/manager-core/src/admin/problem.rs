//! Errors of the admin API. A handler's error travels in the response's extensions up to
//! [`render`], the one place that knows the request's id and writes problem+json.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderMap, HeaderValue};
use http::{HeaderName, StatusCode};
use serde_json::{Map, Value};
use shared::call::{CallCode, CallError};
use shared::fault::{Code, PROBLEM_JSON, Problem};
use shared::http::RequestId;

use super::rate;
use crate::store;

/// What a caller is told instead of an answer.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) code: Code,
    pub(crate) detail: Cow<'static, str>,
    /// Further members of the problem.
    pub(crate) extra: Map<String, Value>,
    pub(crate) retry_after_s: Option<u32>,
    /// Nothing was done, whatever the code says of that.
    nothing_done: bool,
    /// Further headers, which an answer of success has too. Few errors have any.
    pub(crate) headers: Option<Box<HeaderMap>>,
}

impl ApiError {
    pub(crate) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let (detail, extra) = (detail.into(), Map::new());
        Self { code, detail, extra, retry_after_s: None, nothing_done: false, headers: None }
    }

    pub(crate) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::NotFound, detail)
    }

    pub(crate) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidInput, detail)
    }

    pub(crate) fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(member.to_owned(), value.into());
        self
    }

    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// For an error whose code leaves open whether something was done, where it is known that nothing was.
    pub(crate) fn safe_to_retry(mut self) -> Self {
        self.nothing_done = true;
        self
    }

    pub(crate) fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.headers = Some(Box::new(headers));
        self
    }

    /// The problem as it is sent.
    pub(crate) fn to_json(&self, request_id: &str) -> Value {
        let problem = Problem::new(self.code, &self.detail, request_id, &self.extra);
        let problem = if self.nothing_done { problem.safe_to_retry() } else { problem };
        serde_json::to_value(&problem).unwrap_or_default()
    }

    fn of_status(status: StatusCode) -> Self {
        let (code, detail) = match status {
            StatusCode::NOT_FOUND => (Code::NotFound, "there is nothing at this address"),
            StatusCode::METHOD_NOT_ALLOWED => {
                (Code::MethodNotAllowed, "this address does not answer this method; see the header Allow")
            }
            StatusCode::PAYLOAD_TOO_LARGE => (Code::BodyTooLarge, "the request body is over the limit"),
            status if status.is_client_error() => (Code::BadRequest, "the request is malformed"),
            _ => (Code::Internal, "the platform failed; its log says more under the request's id"),
        };
        Self::new(code, detail)
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        if store::is_crowded(&error) {
            tracing::warn!("a request found no connection to the database free");
            let detail = "no connection to the database was free for this request, because others at the same time take \
                          long: perhaps they wait for what a dry run changes; try again soon, with fewer at once";
            return Self::new(Code::Unavailable, detail).retry_after(1);
        }
        if store::is_outage(&error) {
            tracing::error!(%error, "the database is away");
            return Self::new(Code::Unavailable, "the database cannot be reached; try again soon")
                .retry_after(1);
        }
        if store::waited_too_long(&error) {
            tracing::warn!(%error, "a change waited too long for another");
            let detail =
                "somebody else is changing the same, or a dry run that does so is not over; try again soon";
            return Self::new(Code::Unavailable, detail).retry_after(1);
        }
        tracing::error!(%error, "a database statement failed");
        Self::of_status(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        let code = match error.code {
            CallCode::InvalidArgument => Code::InvalidInput,
            CallCode::TooLarge => Code::BodyTooLarge,
            CallCode::Conflict => Code::Conflict,
            CallCode::NotFound => Code::NotFound,
            CallCode::Forbidden => Code::Forbidden,
            CallCode::BudgetExhausted => Code::BudgetExhausted,
            CallCode::Throttled => Code::TooManyRequests,
            CallCode::ScriptFailed => Code::ScriptError,
            CallCode::Overloaded => Code::Overloaded,
            CallCode::Refused => Code::Conflict,
            CallCode::NotConfigured | CallCode::Unavailable => Code::Unavailable,
            CallCode::Internal | CallCode::Forged => Code::Internal,
        };
        Self::new(code, error.message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.extensions_mut().insert(self);
        response
    }
}

/// Marks a response that a script made: its status says nothing about the admin API.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OfScript;

const NOSNIFF: (HeaderName, HeaderValue) =
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
/// Nothing of the API is a page, and nothing of it belongs into one.
const POLICY: (HeaderName, HeaderValue) =
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
/// Addresses name apps and people.
const NO_REFERRER: (HeaderName, HeaderValue) =
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
const NO_STORE: (HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
/// Another site's page neither holds on to a window of this one nor embeds what it answers.
const OPENER: (HeaderName, HeaderValue) =
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"));
const RESOURCE: (HeaderName, HeaderValue) =
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));
/// A year, which is what OWASP ASVS asks for. Of this host alone: those below it are the apps'.
const ONLY_TLS: (HeaderName, HeaderValue) =
    (header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));

/// Whether people reach the server by TLS, so that browsers may be told never to come without it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IsTls(bool);

impl IsTls {
    pub(crate) fn of(public_url: &str) -> Self {
        Self(public_url.starts_with("https://"))
    }
}

/// Gives every request an id and every error its body.
pub(crate) async fn render(State(IsTls(is_tls)): State<IsTls>, mut request: Request, next: Next) -> Response {
    let id = match request.extensions().get::<RequestId>() {
        Some(id) => id.clone(),
        None => RequestId(Arc::from(uuid::Uuid::now_v7().to_string())),
    };
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).await;
    if response.extensions().get::<OfScript>().is_some() {
        return response;
    }
    let status = response.status();
    // A part that is not there: how long the whole is says its header, and there is nothing else to say.
    let is_failure =
        (status.is_client_error() || status.is_server_error()) && status != StatusCode::RANGE_NOT_SATISFIABLE;
    let error = response.extensions_mut().remove::<ApiError>();
    let error = error.or_else(|| is_failure.then(|| ApiError::of_status(status)));
    if let Some(error) = error {
        let old = std::mem::take(response.headers_mut());
        response = problem(&error, &id.0, old);
    }
    let headers: &mut HeaderMap = response.headers_mut();
    let safe = [NOSNIFF, POLICY, NO_REFERRER, NO_STORE, OPENER, RESOURCE];
    for (name, value) in safe.into_iter().chain(is_tls.then_some(ONLY_TLS)) {
        headers.entry(name).or_insert(value);
    }
    response
}

/// The problem, with those headers of the answer in its place that say something about the request.
fn problem(error: &ApiError, request_id: &str, mut old: HeaderMap) -> Response {
    let mut response = Response::new(Body::from(error.to_json(request_id).to_string()));
    *response.status_mut() =
        StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Some(further) = &error.headers {
        headers.clone_from(further);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    for name in [header::ALLOW, rate::LIMIT, rate::POLICY] {
        if let Some(value) = old.remove(&name) {
            headers.entry(name).or_insert(value);
        }
    }
    if let Some(seconds) = error.retry_after_s {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    let scheme = match error.code {
        Code::Unauthenticated => Some("Bearer"),
        Code::SignatureInvalid | Code::SignatureExpired => Some("Signature"),
        _ => None,
    };
    if let Some(scheme) = scheme {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
    }
    response
}
