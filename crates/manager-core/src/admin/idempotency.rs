//! `Idempotency-Key`: a POST that is sent again, because its answer was lost, is done once. The second
//! request gets the first one's answer; another request with the same key is refused; one that comes
//! while the first is still being worked on is asked to wait.
//!
//! A key is its person's own and lives for 24 hours. Answers of success are kept, except those that
//! show a secret; a request that was refused or failed changed nothing, so its key is free again.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Extensions, Method, StatusCode};
use http_body_util::BodyExt;
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};
use shared::fault::Code;
use shared::http::BodyRoom;
use shared::id::UserId;
use shared::limits::MANIFEST_BYTES_MAX;
use tracing::Instrument;

use super::openapi::{Answer, Operation};
use super::problem::ApiError;
use super::{Admin, ROOT, read, verbs};
use crate::store;
use crate::store::idempotency::{Begun, Kept};

pub(super) const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// A UUID has 36; longer ones are somebody's mistake.
const KEY_CHARS_MAX: usize = 255;
/// Longest answer that is kept: far beyond all but test runs of scripts with long answers.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// What takes more than others: manifests, and what is taken as it comes, which with a key is in memory first.
const LONG: [&str; 3] = ["/apps/{app}:plan", "/apps/{app}:apply", "/apps/{app}/files/{collection}"];

/// An answer that shows a secret: it is sent and kept nowhere.
pub(super) struct Once<T>(pub(super) T);

/// Marks such an answer on its way out.
#[derive(Debug, Clone, Copy)]
struct ShownOnce;

impl<T: Serialize> IntoResponse for Once<T> {
    fn into_response(self) -> Response {
        let mut response = JsonBody(self.0).into_response();
        response.extensions_mut().insert(ShownOnce);
        response
    }
}

impl<T: JsonSchema> Answer for Once<T> {
    fn describe(operation: &mut Operation<'_>) {
        <JsonBody<T> as Answer>::describe(operation);
    }
}

impl<T: JsonSchema> Answer for (StatusCode, Once<T>) {
    fn describe(operation: &mut Operation<'_>) {
        <(StatusCode, JsonBody<T>) as Answer>::describe(operation);
    }
}

/// Says in the document that an operation takes a key.
pub(super) fn describe(operation: &mut Operation<'_>) {
    operation.header(
        "Idempotency-Key",
        "Names this request, so that it is done once within 24 hours however often it is sent; a UUID.",
        "^[!-~]{1,255}$",
    );
    operation.problems(&[
        Code::BadRequest,
        Code::RequestTimeout,
        Code::RequestInFlight,
        Code::BodyTooLarge,
        Code::IdempotencyKeyReused,
    ]);
}

/// Lets a request through to its handler unless it was done already.
pub(super) async fn once(
    admin: &Arc<Admin>,
    user: UserId,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Some(key) = key(request.method(), request.headers())? else { return Ok(next.run(request).await) };
    let (parts, body) = request.into_parts();
    let body = read::whole(&parts.extensions, body, body_bytes_max(&parts.extensions)).await?;
    let room: Option<BodyRoom> = parts.extensions.get().cloned();
    let fingerprint = fingerprint(&parts, &body);
    let begun = {
        let mut conn = admin.database.acquire().await?;
        store::idempotency::begin(&mut conn, user, &key, fingerprint).await?
    };
    match begun {
        Begun::New => {}
        Begun::TooMany => {
            let detail =
                "too many idempotency keys within 24 hours; leave the header out where it is not needed";
            return Err(ApiError::new(Code::TooManyRequests, detail).retry_after(3_600));
        }
        Begun::InFlight => {
            let detail = "the request with this idempotency key has no answer yet";
            return Err(ApiError::new(Code::RequestInFlight, detail).retry_after(1));
        }
        Begun::Other => {
            let detail = "the idempotency key was used for another request; use a new one";
            return Err(ApiError::new(Code::IdempotencyKeyReused, detail));
        }
        Begun::Done(kept) => return replay(kept),
    }
    let request = Request::from_parts(parts, Body::from(body));
    // On its own, so that it is done to its end even when the client leaves, which is why it has a key.
    let admin = Arc::clone(admin);
    let work = async move {
        let answer = settle(&admin, user, &key, next.run(request).await).await;
        // What was made of the body is in memory until here, also when nobody waits for the answer any more.
        drop(room);
        answer
    };
    tokio::spawn(work.in_current_span()).await.map_err(|error| {
        tracing::error!(%error, "a request with an idempotency key failed");
        ApiError::new(Code::Internal, "the platform failed")
    })
}

/// The key, if there is one and the request can have one.
fn key(method: &Method, headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(HEADER).filter(|_| *method == Method::POST) else { return Ok(None) };
    let is_one = headers.get_all(HEADER).iter().count() == 1;
    let is_key = |text: &&str| {
        (1..=KEY_CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let text = value.to_str().ok().filter(|_| is_one).filter(is_key).ok_or_else(|| {
        let detail = format!("Idempotency-Key is given once and has 1 to {KEY_CHARS_MAX} visible characters");
        ApiError::new(Code::BadRequest, detail)
    })?;
    Ok(Some(text.to_owned()))
}

/// The longest body of an endpoint; one that takes less than most looks for itself.
fn body_bytes_max(extensions: &Extensions) -> usize {
    let path = extensions.get().map(|path: &MatchedPath| verbs::joined(path.as_str())).unwrap_or_default();
    let is_long = path.strip_prefix(ROOT).is_some_and(|path| LONG.contains(&path));
    if is_long { MANIFEST_BYTES_MAX } else { read::JSON_BYTES_MAX }
}

/// What makes a request this one and no other. Each part is preceded by its length.
fn fingerprint(parts: &Parts, body: &[u8]) -> [u8; 32] {
    let address = parts.uri.path_and_query().map_or("", |address| address.as_str());
    let mut hash = Sha256::new();
    for part in [parts.method.as_str().as_bytes(), address.as_bytes(), body] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Keeps what is to be answered again.
async fn settle(admin: &Admin, user: UserId, key: &str, response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            tracing::error!(%error, "an answer broke off");
            return ApiError::new(Code::Internal, "the platform failed").into_response();
        }
    };
    let settled = async {
        let mut conn = admin.database.acquire().await?;
        if !parts.status.is_success() {
            return store::idempotency::forget(&mut conn, user, key).await;
        }
        let is_kept = parts.extensions.get::<ShownOnce>().is_none() && body.len() <= KEPT_BYTES_MAX;
        let text = |name| {
            let value: Option<&HeaderValue> = parts.headers.get(name);
            value.and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let kept = Kept {
            status: parts.status.as_u16(),
            content_type: text(header::CONTENT_TYPE),
            etag: text(header::ETAG),
            body: is_kept.then(|| body.to_vec()),
        };
        store::idempotency::finish(&mut conn, user, key, &kept).await
    };
    // The work is done either way; a repetition finds the key taken until it expires.
    if let Err(error) = settled.await {
        tracing::error!(%error, "the answer to an idempotency key could not be kept");
    }
    Response::from_parts(parts, Body::from(body))
}

fn replay(kept: Kept) -> Result<Response, ApiError> {
    let Some(body) = kept.body else {
        let detail =
            "the request was done already; its answer is not kept, because it shows a secret or is long";
        return Err(ApiError::new(Code::Conflict, detail).with("answered_status", kept.status));
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    for (name, value) in [(header::CONTENT_TYPE, kept.content_type), (header::ETAG, kept.etag)] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::super::endpoints;
    use super::*;

    #[test]
    fn what_takes_long_bodies_is_there() {
        let table = endpoints::table();
        for path in LONG {
            let is_there = table.iter().any(|endpoint| endpoint.method == "POST" && endpoint.path == path);
            assert!(is_there, "{path}");
        }
    }
}
