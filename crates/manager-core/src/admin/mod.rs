//! The admin API. The router below is the table of contents: one line per path, one file per
//! resource. Handlers read a request, ask `auth` and `store`, and answer; they hold no SQL.

mod access;
mod apps;
mod budgets;
mod execute;
mod executions;
mod guard;
mod incidents;
mod invoke;
mod made_up;
mod matching;
mod outcome;
mod page;
mod problem;
mod read;
mod routes;
mod run;
mod scripts;
mod session;
mod system;
mod tail;
mod versions;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::{any, get, patch, post, put};
use shared::ports::Invoke;

pub(crate) use self::guard::guarded;
use self::problem::ApiError;
use crate::auth::Auth;
use crate::budgets::Budgets;
use crate::incidents::Incidents;
use crate::manager::ManagerConfig;
use crate::recorder::Recorder;
use crate::snapshot::Snapshot;
use crate::store::Database;

/// What handlers work with.
pub(crate) struct Admin {
    pub(crate) database: Database,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) auth: Arc<Auth>,
    pub(crate) recorder: Recorder,
    pub(crate) budgets: Budgets,
    pub(crate) incidents: Incidents,
    pub(crate) invoke: Arc<dyn Invoke>,
    pub(crate) config: Arc<ManagerConfig>,
}

pub(crate) fn router(admin: Admin) -> Router {
    let resources = Router::new()
        .route("/auth/login", post(session::login))
        .route("/auth/me", get(session::me))
        .route("/auth/logout", post(session::logout))
        .route("/apps", get(apps::list).post(apps::create))
        .route("/apps/{app}", get(apps::show).patch(apps::update).delete(apps::delete))
        .route("/apps/{app}/scripts", get(scripts::list))
        .route(
            "/apps/{app}/scripts/{name}",
            put(scripts::deploy).get(scripts::show).delete(scripts::delete).post(incidents::release),
        )
        .route("/apps/{app}/scripts/{name}/versions", get(versions::list))
        .route("/apps/{app}/scripts/{name}/rollback", post(versions::rollback))
        .route("/apps/{app}/scripts/{name}/invoke", post(invoke::test))
        .route("/apps/{app}/routes", get(routes::list).post(routes::create))
        .route("/apps/{app}/routes/{id}", patch(routes::update).get(routes::show).delete(routes::delete))
        .route("/apps/{app}/executions", get(executions::list))
        .route("/apps/{app}/executions/{id}", get(executions::show))
        .route("/apps/{app}/incidents", get(incidents::list))
        .route("/apps/{app}/budgets", get(budgets::show).put(budgets::set))
        .route("/apps/{app}/usage", get(budgets::usage))
        .route("/apps/{app}/logs:tail", get(tail::follow));
    Router::new()
        .nest("/api/v1/admin", resources)
        .route("/api/v1/execute/{script_id}", any(execute::execute))
        .route("/api/v1/errors/{code}", get(system::error_page))
        .route("/version", get(system::version))
        .fallback(async || ApiError::not_found("there is nothing at this address"))
        .layer(from_fn(problem::render))
        .with_state(Arc::new(admin))
}
