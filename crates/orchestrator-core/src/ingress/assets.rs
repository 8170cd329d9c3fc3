//! Static files, where no route answers.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::Full;
use shared::fault::Code;
use shared::id::AppId;
use shared::path::PathSegments;
use shared::ports::{Asset, AssetSource, AssetUnavailable};

use super::answer::InCache;
use super::problem::{Failure, REQUEST_ID};

/// The file that a request is for, if there is one.
pub(super) async fn find(
    source: &dyn AssetSource,
    app: AppId,
    request: &Parts,
    request_id: &str,
) -> Result<Option<Response<Full<Bytes>>>, Failure> {
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return Ok(None);
    }
    let Some(path) = PathSegments::new(request.uri.path()).and_then(|path| path.file()) else {
        return Ok(None);
    };
    let found = source.asset(app, &path).await.map_err(|error: AssetUnavailable| {
        let failure = Failure::new(Code::Unavailable, error.to_string());
        Failure { retry_after_s: Some(1), ..failure }
    })?;
    Ok(found.map(|asset| answer(&asset, &request.headers, request_id)))
}

/// Content that is shared with the cache.
struct Content(Arc<Asset>);

impl AsRef<[u8]> for Content {
    fn as_ref(&self) -> &[u8] {
        &self.0.content
    }
}

fn answer(asset: &Arc<Asset>, request: &HeaderMap, request_id: &str) -> Response<Full<Bytes>> {
    let etag = etag(asset);
    let is_known =
        request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|list| {
            list.split(',').map(str::trim).any(|item| item == "*" || item.trim_start_matches("W/") == etag)
        });
    let body = if is_known { Bytes::new() } else { Bytes::from_owner(Content(Arc::clone(asset))) };
    let mut response = Response::new(Full::new(body));
    response.extensions_mut().insert(InCache);
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&asset.content_type)
        && !is_known
    {
        headers.insert(CONTENT_TYPE, value);
    }
    if let Ok(value) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, value);
    }
    // May be kept, and is asked for again each time whether it is still the same.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID.clone(), value);
    }
    response
}

/// 128 bits of the hash.
fn etag(asset: &Asset) -> String {
    let hex: String = asset.hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}
