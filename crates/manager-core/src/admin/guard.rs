//! The door before parts of the admin API that are made elsewhere: about the machine, not about what
//! is kept.

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;

use super::problem::{self, ApiError, IsTls};
use super::{access, gate};
use crate::auth::{Auth, Capability};

/// Everything behind this door. What is not named here does not get through it.
pub(super) const ADDRESSES: [&str; 3] =
    ["/api/v1/admin/system/isolation", "/api/v1/admin/system/workers", "/metrics"];
pub(super) const NEEDS: Capability = Capability::ReadSystem;

pub(crate) fn guarded(auth: Arc<Auth>, is_tls: IsTls, router: Router) -> Router {
    open(is_tls, router.layer(from_fn_with_state(auth, check)))
}

/// The same for what everybody may ask: errors and headers are those of the admin API.
pub(crate) fn open(is_tls: IsTls, router: Router) -> Router {
    router.layer(from_fn_with_state(is_tls, problem::render))
}

async fn check(
    State(auth): State<Arc<Auth>>,
    address: MatchedPath,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if !ADDRESSES.contains(&address.as_str()) {
        tracing::error!(address = address.as_str(), "the guard does not know this address");
        return Err(ApiError::not_found("there is nothing at this address"));
    }
    let (parts, body) = request.into_parts();
    let principal = gate::authenticate(&auth, &parts).await?;
    access::require(&principal, NEEDS)?;
    Ok(next.run(Request::from_parts(parts, body)).await)
}
