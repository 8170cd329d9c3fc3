//! Requests that go by way of the outbox.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use sha2::{Digest, Sha256};
use shared::caller::Caller;
use shared::fault::Code;
use shared::id::DeliveryId;
use shared::invocation::ScriptTarget;
use shared::ports::{Accept, Accepted, Arrived, NotAccepted};
use shared::route::DispatchMode;

use super::home::Home;
use super::problem::{Failure, REQUEST_ID};
use super::request::{self, Call};
use super::response;
use crate::routing::Matched;

static PREFER: HeaderName = HeaderName::from_static("prefer");
static PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
static IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const RESPOND_ASYNC: &str = "respond-async";
/// Longest key that is taken.
const KEY_BYTES_MAX: usize = 255;

/// Writes a request down, and answers at once or when it has run.
pub(super) async fn accept(
    port: &dyn Accept,
    home: &Home,
    matched: &Matched<'_>,
    call: &Call<'_>,
    request_id: &Arc<str>,
) -> Result<Response<Full<Bytes>>, Failure> {
    let headers = &call.parts.headers;
    let is_asked = matched.route.dispatch == DispatchMode::Durable && prefers_async(headers);
    let is_awaited = matched.route.dispatch == DispatchMode::Durable && !is_asked;
    let key = if is_awaited { None } else { key(headers)? };
    let digest = digest(call);
    let blocks = request::blocks(matched, call);
    let remote_ip = call.client.to_string();
    let arrived = Arrived {
        route: matched.route.id,
        target: &matched.route.target,
        request_id,
        caller: call.caller,
        http: blocks.http(matched, call, &remote_ip),
        is_awaited,
        key: key.map(|key| (key, digest)),
    };
    match port.accept(arrived).await {
        Ok(Accepted::Ended(result)) => Ok(response::answer(*result, request_id)),
        Ok(Accepted::Later { delivery, is_repeated }) => {
            let mut answer = accepted(home, &matched.route.target, delivery, request_id);
            let headers = answer.headers_mut();
            if is_asked {
                headers.insert(&PREFERENCE_APPLIED, HeaderValue::from_static(RESPOND_ASYNC));
            }
            if is_repeated {
                headers.insert(&IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
            }
            Ok(answer)
        }
        Err(refused) => {
            let code = match refused {
                NotAccepted::Full => Code::OutboxFull,
                NotAccepted::KeyReused => Code::DeliveryKeyReused,
                NotAccepted::Unavailable => Code::Unavailable,
            };
            let retry_after_s = (refused != NotAccepted::KeyReused).then_some(1);
            Err(Failure { retry_after_s, ..Failure::new(code, refused.to_string()) })
        }
    }
}

/// RFC 7240: the caller would rather not wait.
fn prefers_async(headers: &HeaderMap) -> bool {
    let values = headers.get_all(&PREFER).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|preference| {
        let name = preference.split([';', '=']).next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case(RESPOND_ASYNC)
    })
}

fn key(headers: &HeaderMap) -> Result<Option<&[u8]>, Failure> {
    let Some(key) = headers.get(&IDEMPOTENCY_KEY).map(HeaderValue::as_bytes) else { return Ok(None) };
    if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
        let detail = format!("Idempotency-Key has 1 to {KEY_BYTES_MAX} bytes");
        return Err(Failure::new(Code::BadRequest, detail));
    }
    Ok(Some(key))
}

/// What a request asks for: two with the same digest are the same request.
fn digest(call: &Call<'_>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    let uri = call.parts.uri.path_and_query().map_or("", |uri| uri.as_str());
    // The same from somebody else is another request.
    let caller = call.caller.map(Caller::id_bytes).unwrap_or_default();
    for part in [call.parts.method.as_str().as_bytes(), uri.as_bytes(), call.body, &caller] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn accepted(
    home: &Home,
    target: &ScriptTarget,
    delivery: DeliveryId,
    request_id: &str,
) -> Response<Full<Bytes>> {
    let body = format!("{{\"execution_id\":\"{delivery}\"}}");
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = StatusCode::ACCEPTED;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Whole, because the host that was asked is the app's and does not answer for the server.
    let location = home.address(&format!("/api/v1/admin/apps/{}/executions/{delivery}", target.app_slug));
    if let Ok(location) = HeaderValue::try_from(location) {
        headers.insert(LOCATION, location);
    }
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID.clone(), value);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_may_prefer_not_to_wait() {
        let prefers = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(&PREFER, HeaderValue::from_static(value));
            prefers_async(&headers)
        };
        assert!(prefers("respond-async") && prefers("wait=10, Respond-Async; x=1"));
        assert!(!prefers("wait=10") && !prefers("respond-asynchronously"));
    }
}
