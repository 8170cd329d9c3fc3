//! The admin API. `endpoints` is its table of contents, `gate` stands in front of every handler, and
//! each resource has a file. Handlers read a request, ask `auth` and `store`, and answer; they hold
//! no SQL.

mod access;
mod account;
mod api_keys;
mod app_users;
mod apply;
mod apps;
mod arrival;
mod assets;
mod audit;
mod budgets;
mod causation;
mod compile;
mod content;
mod cookie;
mod dead_letters;
mod denials;
mod doc_indexes;
mod doc_schemas;
mod docs;
mod domains;
mod egress;
mod emitted;
mod endpoints;
mod execute;
mod executions;
mod export;
mod files;
mod foreseen;
mod gate;
mod guard;
mod hooks;
mod idempotency;
mod incidents;
mod invitations;
mod invoke;
mod kv;
mod later;
mod listen;
mod made_up;
mod manifest;
mod matching;
mod members;
mod modules;
mod oidc;
mod openapi;
mod outbox;
mod outcome;
mod page;
mod precondition;
mod problem;
mod queues;
mod rate;
mod read;
mod rehearsed;
mod renamed;
mod routes;
mod run;
mod scripts;
mod sdk;
mod secrets;
mod session;
mod switch;
mod system;
mod tail;
mod topics;
mod totp;
mod transfer;
mod trigger_run;
mod triggers;
mod users;
mod verbs;
mod version_diff;
mod versions;

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{from_fn, from_fn_with_state, map_request};
use axum::routing::{any, get, post};
use shared::ports::Invoke;
use tower::Layer;

pub(crate) use self::denials::{Denials, Denied};
use self::endpoints::Needs;
pub use self::endpoints::{Permission, permissions, permissions_beside};
pub(crate) use self::guard::{guarded, open};
pub use self::openapi::{Beside, openapi};
use self::problem::ApiError;
pub(crate) use self::problem::IsTls;
pub(crate) use self::rate::Rates;
use self::verbs::Verbs;
use crate::assets::Assets;
use crate::auth::{Auth, Capability};
use crate::budgets::Budgets;
use crate::data::Data;
use crate::data::docs::indexer::Indexer;
use crate::domains::Dns;
use crate::events::Outbox;
use crate::events::queues::Queues;
use crate::events::webhooks::Webhooks;
use crate::incidents::Incidents;
use crate::manager::ManagerConfig;
use crate::oidc::Oidc;
use crate::realtime::Hub;
use crate::recorder::Recorder;
use crate::snapshot::Snapshot;
use crate::store::Database;
use crate::vault::Vault;

/// What handlers work with.
pub(crate) struct Admin {
    pub(crate) database: Database,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) hub: Hub,
    pub(crate) auth: Arc<Auth>,
    pub(crate) recorder: Recorder,
    pub(crate) denials: Arc<Denials>,
    pub(crate) rates: Rates,
    pub(crate) budgets: Budgets,
    pub(crate) incidents: Incidents,
    pub(crate) assets: Assets,
    pub(crate) data: Data,
    pub(crate) indexer: Indexer,
    pub(crate) outbox: Outbox,
    pub(crate) queues: Queues,
    pub(crate) webhooks: Webhooks,
    pub(crate) vault: Arc<Vault>,
    pub(crate) invoke: Arc<dyn Invoke>,
    pub(crate) dns: Dns,
    pub(crate) oidc: Oidc,
    pub(crate) config: Arc<ManagerConfig>,
}

/// Where the endpoints of the table are.
const ROOT: &str = "/api/v1/admin";

/// The admin API and what belongs to it. Its document describes `beside` too.
pub(crate) fn router(admin: Admin, beside: &[Beside]) -> Router {
    let is_tls = IsTls::of(&admin.config.public_url);
    let admin = Arc::new(admin);
    let credential = (Arc::clone(&admin), Needs::Right(Capability::ReadSelf));
    let execute = any(execute::execute).layer::<_, Infallible>(from_fn(gate::as_caller));
    let execute = execute.layer(from_fn_with_state(credential, gate::pass_to_script));
    let platform = Router::new()
        .nest(ROOT, endpoints::router(&admin))
        .route("/api/v1/execute/{script_id}", execute)
        .route(hooks::PATH, post(hooks::receive))
        .route("/api/v1/errors/{code}", get(system::error_page))
        .route("/api/v1/sdk.json", get(sdk::reference))
        .route("/api/v1/sdk/{namespace}", get(sdk::definitions))
        .route("/api/v1/files/{token}", get(files::linked))
        .route("/version", get(system::version))
        .merge(openapi::router(beside))
        .fallback(async || ApiError::not_found("there is nothing at this address"))
        .layer(from_fn_with_state(is_tls, problem::render))
        .merge(listen::router(is_tls))
        .with_state(admin);
    let verbs = Arc::new(Verbs::of(endpoints::table().iter().map(|endpoint| endpoint.path)));
    // Around the router, because within it the address has been looked up already.
    let split = map_request(move |mut request: Request| {
        if let Some(uri) = verbs.split(request.uri()) {
            *request.uri_mut() = uri;
        }
        ready(request)
    });
    Router::new().fallback_service(split.layer(platform))
}
