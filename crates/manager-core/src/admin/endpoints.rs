//! The table of contents of the admin API: one line per endpoint says its method, its path below
//! `/api/v1/admin`, what a caller needs, and the handler. Nothing else is served there, and no
//! handler runs before the gate has found that the caller has what the line says.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodFilter, MethodRouter, on};

use super::openapi::{Described, Operation};
use super::{
    Admin, account, api_keys, app_users, apply, apps, assets, audit, budgets, causation, dead_letters,
    denials, doc_indexes, doc_schemas, docs, domains, egress, executions, export, files, gate, guard,
    incidents, invitations, invoke, kv, matching, members, modules, oidc, outbox, queues, routes, scripts,
    secrets, session, switch, tail, topics, totp, transfer, trigger_run, triggers, users, verbs,
    version_diff, versions,
};
use crate::auth::Capability;

/// What a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// No credential.
    Nothing,
    /// A credential with this right.
    Right(Capability),
}

/// A line of the table.
pub(crate) struct Endpoint {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) needs: Needs,
    /// Says what the handler takes and answers.
    pub(super) describe: fn(&mut Operation<'_>),
    handler: MethodRouter<Arc<Admin>>,
    /// The handler's path in this crate, such as `manager_core::admin::apps::list`.
    handler_path: &'static str,
}

/// Every endpoint.
#[expect(clippy::too_many_lines, reason = "a table of contents is read as one")]
pub(crate) fn table() -> Vec<Endpoint> {
    use Capability::{
        AdministerApp, AssignApps, CreateApps, InvokeScripts, ManageSelf, ManageUsers, ReadApp, ReadAudit,
        ReadData, ReadSelf, ReleaseScripts, RotateKeys, SetBudgets, TransferApp, WaiveDomains, WriteApp,
        WriteData, WriteSecrets,
    };
    vec![
        post("/auth/login", None, session::login),
        get("/auth/me", ReadSelf, session::me),
        post("/auth/logout", ManageSelf, session::logout),
        post("/auth/password", ManageSelf, account::change_password),
        get("/auth/sessions", ManageSelf, account::sessions),
        delete("/auth/sessions", ManageSelf, account::revoke_all),
        delete("/auth/sessions/{id}", ManageSelf, account::revoke),
        get("/auth/totp", ManageSelf, totp::show),
        post("/auth/totp", ManageSelf, totp::enrol),
        post("/auth/totp:confirm", ManageSelf, totp::confirm),
        post("/auth/totp:remove", ManageSelf, totp::remove),
        get("/auth/oidc", None, oidc::providers),
        get("/auth/oidc/{name}/login", None, oidc::login),
        get("/auth/oidc/{name}/callback", None, oidc::callback),
        get("/auth/identities", ManageSelf, oidc::identities),
        post("/auth/identities", ManageSelf, oidc::link),
        delete("/auth/identities/{id}", ManageSelf, oidc::unlink),
        get("/users", ManageUsers, users::list),
        post("/users", ManageUsers, users::create),
        get("/users/{id}", ManageUsers, users::show),
        patch("/users/{id}", ManageUsers, users::update),
        delete("/users/{id}", ManageUsers, users::delete),
        get("/invitations", ManageUsers, invitations::list),
        post("/invitations", ManageUsers, invitations::create),
        delete("/invitations/{id}", ManageUsers, invitations::delete),
        post("/invitations:accept", None, invitations::accept),
        get("/api-keys", ManageSelf, api_keys::list),
        post("/api-keys", ManageSelf, api_keys::create),
        delete("/api-keys/{id}", ManageSelf, api_keys::delete),
        get("/audit", ReadAudit, audit::of_instance),
        get("/audit:verify", ReadAudit, audit::verify),
        get("/apps", ReadSelf, apps::list),
        post("/apps", CreateApps, apps::create),
        get("/apps/{app}", ReadApp, apps::show),
        patch("/apps/{app}", AdministerApp, apps::update),
        delete("/apps/{app}", AdministerApp, apps::delete),
        post("/apps/{app}:plan", WriteApp, apply::plan),
        post("/apps/{app}:apply", WriteApp, apply::apply),
        get("/apps/{app}/manifest", ReadApp, export::show),
        post("/apps/{app}:transfer", TransferApp, transfer::transfer),
        get("/apps/{app}/transfer", ReadApp, transfer::show),
        delete("/apps/{app}/transfer", TransferApp, transfer::withdraw),
        post("/apps/{app}:assign", AssignApps, transfer::assign),
        get("/transfers", ManageSelf, transfer::offers),
        post("/transfers/{id}:accept", ManageSelf, transfer::accept),
        post("/transfers/{id}:decline", ManageSelf, transfer::decline),
        get("/apps/{app}/members", ReadApp, members::list),
        post("/apps/{app}/members", AdministerApp, members::add),
        get("/apps/{app}/members/{user}", ReadApp, members::show),
        patch("/apps/{app}/members/{user}", AdministerApp, members::update),
        delete("/apps/{app}/members/{user}", AdministerApp, members::remove),
        get("/apps/{app}/assets", ReadApp, assets::list),
        put("/apps/{app}/assets", WriteApp, assets::put),
        delete("/apps/{app}/assets", WriteApp, assets::delete),
        get("/apps/{app}/kv", ReadData, kv::collections),
        get("/apps/{app}/kv/{collection}", ReadData, kv::list),
        get("/apps/{app}/kv/{collection}/{key}", ReadData, kv::show),
        put("/apps/{app}/kv/{collection}/{key}", WriteData, kv::set),
        delete("/apps/{app}/kv/{collection}/{key}", WriteData, kv::delete),
        get("/apps/{app}/docs", ReadData, docs::collections),
        get("/apps/{app}/docs/{collection}", ReadData, docs::find),
        post("/apps/{app}/docs/{collection}", WriteData, docs::create),
        get("/apps/{app}/docs/{collection}/{id}", ReadData, docs::show),
        put("/apps/{app}/docs/{collection}/{id}", WriteData, docs::replace),
        patch("/apps/{app}/docs/{collection}/{id}", WriteData, docs::patch),
        delete("/apps/{app}/docs/{collection}/{id}", WriteData, docs::delete),
        get("/apps/{app}/doc-indexes", ReadApp, doc_indexes::list),
        post("/apps/{app}/doc-indexes", WriteApp, doc_indexes::create),
        delete("/apps/{app}/doc-indexes/{id}", WriteApp, doc_indexes::delete),
        get("/apps/{app}/doc-schemas", ReadApp, doc_schemas::list),
        put("/apps/{app}/doc-schemas/{collection}", WriteApp, doc_schemas::put),
        delete("/apps/{app}/doc-schemas/{collection}", WriteApp, doc_schemas::delete),
        get("/apps/{app}/files", ReadData, files::collections),
        get("/apps/{app}/files/{collection}", ReadData, files::list),
        post("/apps/{app}/files/{collection}", WriteData, files::create),
        get("/apps/{app}/files/{collection}/{id}", ReadData, files::show),
        put("/apps/{app}/files/{collection}/{id}", WriteData, files::replace),
        delete("/apps/{app}/files/{collection}/{id}", WriteData, files::delete),
        get("/apps/{app}/files/{collection}/{id}/content", ReadData, files::download),
        get("/apps/{app}/users", ReadData, app_users::list),
        get("/apps/{app}/users/{id}", ReadData, app_users::show),
        patch("/apps/{app}/users/{id}", WriteData, app_users::update),
        delete("/apps/{app}/users/{id}", WriteData, app_users::delete),
        post("/apps/{app}/users/{id}:end-sessions", WriteData, app_users::end_sessions),
        get("/apps/{app}/domains", ReadApp, domains::list),
        post("/apps/{app}/domains", AdministerApp, domains::create),
        get("/apps/{app}/domains/{id}", ReadApp, domains::show),
        post("/apps/{app}/domains/{id}:verify", AdministerApp, domains::verify),
        post("/apps/{app}/domains/{id}:waive", WaiveDomains, domains::waive),
        delete("/apps/{app}/domains/{id}", AdministerApp, domains::delete),
        get("/apps/{app}/secrets", ReadApp, secrets::list),
        put("/apps/{app}/secrets/{name}", WriteSecrets, secrets::put),
        delete("/apps/{app}/secrets/{name}", WriteSecrets, secrets::delete),
        post("/apps/{app}/secrets:rotate-key", AdministerApp, secrets::rotate),
        post("/system/secrets:rotate-master", RotateKeys, secrets::rotate_master),
        get("/apps/{app}/egress", ReadApp, egress::show),
        put("/apps/{app}/egress", AdministerApp, egress::set),
        get("/apps/{app}/egress/destinations", ReadApp, egress::destinations),
        get("/apps/{app}/denials", AdministerApp, denials::list),
        get("/apps/{app}/audit", AdministerApp, audit::of_app),
        get("/apps/{app}/budgets", ReadApp, budgets::show),
        put("/apps/{app}/budgets", SetBudgets, budgets::set),
        get("/apps/{app}/usage", ReadApp, budgets::usage),
        get("/apps/{app}/incidents", ReadApp, incidents::list),
        get("/apps/{app}/scripts", ReadApp, scripts::list),
        put("/apps/{app}/scripts/{name}", WriteApp, scripts::deploy),
        get("/apps/{app}/scripts/{name}", ReadApp, scripts::show),
        delete("/apps/{app}/scripts/{name}", WriteApp, scripts::delete),
        get("/apps/{app}/scripts/{name}/versions", ReadApp, versions::list),
        get("/apps/{app}/scripts/{name}/versions/{id}:diff", ReadApp, version_diff::diff),
        post("/apps/{app}/scripts/{name}/versions/{id}:approve", AdministerApp, versions::approve),
        post("/apps/{app}/scripts/{name}:enable", WriteApp, switch::enable),
        post("/apps/{app}/scripts/{name}:disable", WriteApp, switch::disable),
        post("/apps/{app}/scripts/{name}:release", ReleaseScripts, incidents::release),
        post("/apps/{app}/scripts/{name}/rollback", WriteApp, versions::rollback),
        post("/apps/{app}/scripts/{name}/invoke", InvokeScripts, invoke::test),
        get("/apps/{app}/modules", ReadApp, modules::graph),
        get("/apps/{app}/routes", ReadApp, routes::list),
        post("/apps/{app}/routes", WriteApp, routes::create),
        post("/apps/{app}/routes:match", ReadApp, matching::explain),
        get("/apps/{app}/routes/{id}", ReadApp, routes::show),
        patch("/apps/{app}/routes/{id}", WriteApp, routes::update),
        delete("/apps/{app}/routes/{id}", WriteApp, routes::delete),
        get("/apps/{app}/triggers", ReadApp, triggers::list),
        post("/apps/{app}/triggers", WriteApp, triggers::create),
        post("/apps/{app}/triggers:preview", ReadApp, triggers::preview),
        get("/apps/{app}/triggers/{id}", ReadApp, triggers::show),
        patch("/apps/{app}/triggers/{id}", WriteApp, triggers::update),
        delete("/apps/{app}/triggers/{id}", WriteApp, triggers::delete),
        post("/apps/{app}/triggers/{id}:take-over", WriteApp, triggers::take_over),
        post("/apps/{app}/triggers/{id}:run", InvokeScripts, trigger_run::run),
        get("/apps/{app}/topics", ReadApp, topics::list),
        post("/apps/{app}/topics", WriteApp, topics::create),
        get("/apps/{app}/topics/{name}", ReadApp, topics::show),
        patch("/apps/{app}/topics/{name}", WriteApp, topics::update),
        delete("/apps/{app}/topics/{name}", WriteApp, topics::delete),
        get("/apps/{app}/queues", ReadData, queues::list),
        get("/apps/{app}/queues/{name}/messages", ReadData, queues::peek),
        post("/apps/{app}/queues/{name}/messages", WriteData, queues::send),
        post("/apps/{app}/queues/{name}:pause", WriteData, queues::pause),
        post("/apps/{app}/queues/{name}:resume", WriteData, queues::resume),
        post("/apps/{app}/queues/{name}:purge", WriteData, queues::purge),
        post("/apps/{app}/queues/{name}:redrive", WriteData, queues::redrive),
        get("/apps/{app}/executions", ReadApp, executions::list),
        get("/apps/{app}/executions/{id}", ReadApp, executions::show),
        get("/apps/{app}/executions/{id}/causation", ReadApp, causation::show),
        get("/apps/{app}/abandoned-executions", ReadApp, outbox::abandoned),
        get("/apps/{app}/outbox", ReadApp, outbox::list),
        get("/apps/{app}/dead-letters", ReadApp, dead_letters::list),
        post("/apps/{app}/dead-letters:replay", WriteApp, dead_letters::replay_many),
        post("/apps/{app}/dead-letters:resolve", WriteApp, dead_letters::resolve_many),
        get("/apps/{app}/dead-letters/{id}", ReadData, dead_letters::show),
        post("/apps/{app}/dead-letters/{id}:replay", WriteApp, dead_letters::replay),
        post("/apps/{app}/dead-letters/{id}:resolve", WriteApp, dead_letters::resolve),
        get("/apps/{app}/logs:tail", ReadApp, tail::follow),
    ]
}

/// What an endpoint asks of its caller, for the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    pub method: &'static str,
    pub path: &'static str,
    /// The capability; none when no credential is needed.
    pub needs: Option<&'static str>,
}

/// The table without its handlers.
pub fn permissions() -> Vec<Permission> {
    let lines = table().into_iter().map(|Endpoint { method, path, needs, .. }| {
        let needs = match needs {
            Needs::Nothing => None,
            Needs::Right(capability) => Some(capability.as_str()),
        };
        Permission { method, path, needs }
    });
    lines.collect()
}

/// What the composition root serves to those who run the instance: whole addresses, and what they need.
pub fn permissions_beside() -> Vec<Permission> {
    let needs = Some(guard::NEEDS.as_str());
    guard::ADDRESSES.iter().map(|path| Permission { method: "GET", path, needs }).collect()
}

/// The table as a router.
pub(super) fn router(admin: &Arc<Admin>) -> Router<Arc<Admin>> {
    table().into_iter().fold(Router::new(), |router, endpoint| {
        let state = (Arc::clone(admin), endpoint.needs);
        let handler = endpoint.handler.route_layer(from_fn(gate::as_caller));
        let gated = handler.route_layer(from_fn_with_state(state, gate::pass));
        router.route(&verbs::routed(endpoint.path), gated)
    })
}

fn get<H: Handler<T, Arc<Admin>> + Described<T>, T: 'static>(
    path: &'static str,
    needs: impl Into<Option<Capability>>,
    handler: H,
) -> Endpoint {
    Endpoint::new("GET", path, needs.into(), MethodFilter::GET, handler)
}

fn post<H: Handler<T, Arc<Admin>> + Described<T>, T: 'static>(
    path: &'static str,
    needs: impl Into<Option<Capability>>,
    handler: H,
) -> Endpoint {
    Endpoint::new("POST", path, needs.into(), MethodFilter::POST, handler)
}

fn put<H: Handler<T, Arc<Admin>> + Described<T>, T: 'static>(
    path: &'static str,
    needs: impl Into<Option<Capability>>,
    handler: H,
) -> Endpoint {
    Endpoint::new("PUT", path, needs.into(), MethodFilter::PUT, handler)
}

fn patch<H: Handler<T, Arc<Admin>> + Described<T>, T: 'static>(
    path: &'static str,
    needs: impl Into<Option<Capability>>,
    handler: H,
) -> Endpoint {
    Endpoint::new("PATCH", path, needs.into(), MethodFilter::PATCH, handler)
}

fn delete<H: Handler<T, Arc<Admin>> + Described<T>, T: 'static>(
    path: &'static str,
    needs: impl Into<Option<Capability>>,
    handler: H,
) -> Endpoint {
    Endpoint::new("DELETE", path, needs.into(), MethodFilter::DELETE, handler)
}

impl Endpoint {
    fn new<H: Handler<T, Arc<Admin>> + Described<T>, T: 'static>(
        method: &'static str,
        path: &'static str,
        needs: Option<Capability>,
        filter: MethodFilter,
        handler: H,
    ) -> Self {
        Self {
            method,
            path,
            needs: needs.map_or(Needs::Nothing, Needs::Right),
            describe: H::describe,
            handler: on(filter, handler),
            handler_path: std::any::type_name::<H>(),
        }
    }

    /// Names the endpoint for programs: its resource and what is done with it, such as `apps_list`.
    pub(super) fn id(&self) -> String {
        let mut parts = self.handler_path.rsplit("::");
        let (verb, resource) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        format!("{resource}_{verb}")
    }
}
