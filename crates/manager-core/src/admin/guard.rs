//! The door before parts of the admin API that are made elsewhere: about the machine, not about what
//! is kept.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;

use super::problem::{self, ApiError};
use super::{access, gate};
use crate::auth::{Auth, Capability};

pub(crate) fn guarded(auth: Arc<Auth>, router: Router) -> Router {
    router.layer(from_fn_with_state(auth, check)).layer(from_fn(problem::render))
}

/// The same for what everybody may ask: errors and headers are those of the admin API.
pub(crate) fn open(router: Router) -> Router {
    router.layer(from_fn(problem::render))
}

async fn check(State(auth): State<Arc<Auth>>, request: Request, next: Next) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let principal = gate::authenticate(&auth, &parts).await?;
    access::require(&principal, Capability::ReadSystem)?;
    Ok(next.run(Request::from_parts(parts, body)).await)
}
