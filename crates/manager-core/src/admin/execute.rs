//! Running a script directly with the caller's own request, without a route.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response as HttpResponse};
use http::header::{self, HeaderMap, HeaderValue};
use shared::caller::Caller;
use shared::fault::Code;
use shared::guest_abi::GuestHttp;
use shared::http::{ClientAddress, PairBlock, RequestId};
use shared::id::ScriptId;
use shared::invocation::{Invocation, Response};
use shared::limits::BODY_BYTES_DEFAULT;

use super::denials::Denied;
use super::problem::{ApiError, OfScript};
use super::run::{live_target, run};
use super::{Admin, access, outcome, read};
use crate::auth::{Capability, Principal};
use crate::store;

pub(super) async fn execute(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Extension(RequestId(request_id)): Extension<RequestId>,
    address: Option<Extension<ClientAddress>>,
    Path(script): Path<String>,
    request: Request,
) -> Result<HttpResponse, ApiError> {
    let missing = || ApiError::not_found("there is no such script");
    let script: ScriptId = script.parse().map_err(|_| missing())?;
    let target = {
        let mut conn = admin.database.acquire().await?;
        let target = live_target(&mut conn, script).await?;
        let (app, standing) = access::find(&mut conn, &principal, &target.app.to_string()).await?;
        if let Err(denial) = access::decide(&principal, Capability::InvokeScripts, standing) {
            let what = (request.method(), request.uri());
            let denied = Denied::new(app.id, &principal, Capability::InvokeScripts, what, denial.clone());
            admin.denials.record(denied);
            return Err(if denial.hides_the_app() { missing() } else { access::refusal(denial) });
        }
        if !store::scripts::is_enabled(&mut conn, script).await? {
            return Err(ApiError::new(Code::ScriptDisabled, "the script is switched off by its people"));
        }
        target
    };
    let method = request.method().to_string();
    let path = request.uri().path().to_owned();
    let query = PairBlock::from_urlencoded(request.uri().query().unwrap_or_default());
    let headers = request.headers().clone();
    let seen = forwarded_headers(&headers);
    let body = read::body(request, BODY_BYTES_DEFAULT as usize).await?;
    let remote_ip = address.map(|Extension(ClientAddress(ip))| ip.to_string()).unwrap_or_default();
    let http = GuestHttp {
        method: &method,
        path: &path,
        rest: "",
        remote_ip: &remote_ip,
        params: &[],
        query: query.as_bytes(),
        headers: seen.as_bytes(),
        body: &body,
    };
    let caller = Caller::Person { id: principal.user.id, name: principal.user.username.to_string() };
    let invocation = Invocation::http_of(target, request_id, Some(&caller), http).following(&headers);
    let outcome = run(&admin, invocation).await?;
    match outcome.response {
        Some(response) => Ok(of_script(response)),
        None => Err(outcome::failed(&outcome)),
    }
}

/// The caller's headers without their credential, which is for the platform and not for a script.
fn forwarded_headers(headers: &HeaderMap) -> PairBlock {
    let mut block = PairBlock::default();
    for (name, value) in headers {
        if name != header::AUTHORIZATION && name != header::COOKIE {
            block.push(name.as_str().as_bytes(), value.as_bytes());
        }
    }
    block
}

fn of_script(response: Response) -> HttpResponse {
    if response.status.is_informational() {
        let detail = format!("the script answered with the status {}", response.status.as_u16());
        return ApiError::new(Code::InvalidResponse, detail).into_response();
    }
    let mut answer = HttpResponse::new(Body::from(response.body));
    *answer.status_mut() = response.status;
    *answer.headers_mut() = response.headers;
    let headers = answer.headers_mut();
    // This address is the platform's own: a page that a script makes gets no rights from it.
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.remove(header::SET_COOKIE);
    answer.extensions_mut().insert(OfScript);
    answer
}
