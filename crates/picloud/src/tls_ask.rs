//! `/internal/tls-allow`: a proxy that gets certificates on demand asks here, before it gets one,
//! whether anybody answers on the host. Without that, everybody who points a name at the server makes
//! it ask for a certificate, until the authority refuses the instance any.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use ipnet::IpNet;
use orchestrator_core::ingress::DataPlane;
use serde::Deserialize;
use shared::host::{is_address, normalized};
use shared::http::ClientAddress;
use shared::route::TLS_ALLOW_PATH;

struct Ask {
    plane: Arc<DataPlane>,
    trusted_proxies: Vec<IpNet>,
}

#[derive(Deserialize)]
struct Question {
    domain: String,
}

/// Answers proxies: those on this machine, and those that are trusted.
pub fn router(plane: Arc<DataPlane>, trusted_proxies: Vec<IpNet>) -> Router {
    let ask = Arc::new(Ask { plane, trusted_proxies });
    Router::new().route(TLS_ALLOW_PATH, get(answer)).with_state(ask)
}

/// 200 for a host that somebody answers on, 404 for any other, and for whoever has no business here.
async fn answer(
    State(ask): State<Arc<Ask>>,
    Extension(ClientAddress(client)): Extension<ClientAddress>,
    headers: HeaderMap,
    Query(Question { domain }): Query<Question>,
) -> StatusCode {
    if !ask.is_proxy(client) || is_forwarded(&headers) {
        return StatusCode::NOT_FOUND;
    }
    let name = normalized(&domain);
    let is_own = ask.plane.is_own_host(&name) && !is_address(&name) && name.contains('.');
    if is_own || ask.plane.router.may_have_certificate(&name) {
        StatusCode::OK
    } else {
        StatusCode::NOT_FOUND
    }
}

impl Ask {
    fn is_proxy(&self, client: IpAddr) -> bool {
        client.is_loopback() || self.trusted_proxies.iter().any(|net| net.contains(&client))
    }
}

/// What a proxy passes on is a stranger's question, wherever it comes from.
fn is_forwarded(headers: &HeaderMap) -> bool {
    ["x-forwarded-for", "x-forwarded-host", "forwarded", "via"].iter().any(|name| headers.contains_key(*name))
}
