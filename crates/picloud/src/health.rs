//! `/healthz` and `/readyz`: for supervisors and load balancers.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use manager_core::{Beside, Manager};
use orchestrator_core::pool::Pool;

/// The process is alive; whether it can do its work is what `/readyz` says.
pub fn router(manager: Manager, pool: Pool) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || readiness(manager.clone(), pool.clone())))
}

/// The same for the API's document.
pub fn described() -> [Beside; 2] {
    let unready = &[503];
    [
        Beside::text("/healthz", "system_healthz", "The process is alive"),
        Beside {
            also: unready,
            ..Beside::text("/readyz", "system_readyz", "Database and workers are ready")
        },
    ]
}

/// `isolation off` is said here too, because this is what watches a server.
async fn readiness(manager: Manager, pool: Pool) -> (StatusCode, String) {
    let database = manager.is_ready().await;
    let workers = pool.status().workers_ready;
    let status = if database && workers > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let database = if database { "ok" } else { "unreachable" };
    let isolation = if pool.mode().has_walls() { "" } else { "isolation off\n" };
    (status, format!("database {database}\nworkers {workers}\n{isolation}"))
}
