//! From what came of an execution to HTTP.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, HeaderValue, LOCATION};
use http::request::Parts;
use http::{Method, Response, StatusCode, Uri};
use http_body_util::Full;
use shared::fault::Code;
use shared::invocation::{ExecutionStatus, Outcome, WorkResult};
use shared::route::RoutePolicy;

use super::cors;
use super::problem::{Failure, REQUEST_ID};

/// The script's answer, or the problem that stands in its place.
pub(super) fn answer(result: WorkResult, request_id: &str) -> Response<Full<Bytes>> {
    match result {
        WorkResult::Ran(outcome) => ran(outcome, request_id),
        WorkResult::Refused(refusal) => {
            let failure = Failure::new(refusal.problem(), refusal.to_string());
            Failure { retry_after_s: refusal.retry_after_s(), ..failure }.into_response(request_id)
        }
        WorkResult::Compiled { .. } | WorkResult::Rejected(_) | WorkResult::NotCompiled(_) => {
            Failure::new(Code::Internal, "the work was compiled instead of run").into_response(request_id)
        }
    }
}

/// Sends a request for an app's former host on to its host of today, with the scheme and the port
/// that it came by. `no-cache` keeps browsers from
/// remembering it for good: another app may take the former slug.
pub(super) fn moved(to: &str, from: &str, uri: &Uri, request_id: &str) -> Response<Full<Bytes>> {
    let port = from.rsplit_once(':').map(|(_, port)| port);
    let port = port.filter(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let rest = uri.path_and_query().map_or("/", |rest| rest.as_str());
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let headers = response.headers_mut();
    // The address that the form `//host` leaves open is the scheme, which only a proxy knows.
    if let Ok(location) = HeaderValue::from_str(&format!("//{to}{port}{rest}")) {
        headers.insert(LOCATION, location);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID.clone(), value);
    }
    response
}

/// Adds to an answer what its route's policy says.
pub(super) fn apply(policy: &RoutePolicy, request: &Parts, response: &mut Response<Full<Bytes>>) {
    if let Some(policy) = &policy.cors {
        cors::apply(policy, &request.headers, response.headers_mut());
    }
    if let Some(text) = &policy.cache_control
        && response.status().is_success()
        && matches!(request.method, Method::GET | Method::HEAD)
        && !response.headers().contains_key(CACHE_CONTROL)
        && let Ok(value) = HeaderValue::from_str(text)
    {
        response.headers_mut().insert(CACHE_CONTROL, value);
    }
}

fn ran(outcome: Outcome, request_id: &str) -> Response<Full<Bytes>> {
    if let Some(answer) = outcome.response {
        let mut response = Response::new(Full::new(Bytes::from(answer.body)));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        if let Ok(value) = HeaderValue::from_str(request_id) {
            response.headers_mut().insert(REQUEST_ID.clone(), value);
        }
        return response;
    }
    let code = outcome.status.problem().unwrap_or(Code::Internal);
    Failure::new(code, detail(outcome.status)).into_response(request_id)
}

/// What a stranger may know. Where in the script it happened, and what it said, is for its owner:
/// the execution's record has it.
const fn detail(status: ExecutionStatus) -> &'static str {
    match status {
        ExecutionStatus::ScriptError => {
            "the script failed; its owner finds the reason in the execution's record"
        }
        ExecutionStatus::FuelExhausted => "the script burnt all the fuel it may",
        ExecutionStatus::MemoryExceeded => "the script wanted more memory than it may have",
        ExecutionStatus::Timeout => "the script did not answer within its time limit",
        ExecutionStatus::InvalidResponse => {
            "the script's answer is not a valid response; its owner finds the reason in the execution's record"
        }
        ExecutionStatus::WorkerLost => {
            "the worker that ran the script was lost; whether it had finished is unknown"
        }
        ExecutionStatus::Ok | ExecutionStatus::Cancelled | ExecutionStatus::DepthExceeded => {
            "the execution ended without an answer"
        }
    }
}
