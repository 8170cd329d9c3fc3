//! Versions of a script: going back to one, and approving one that asks for more.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::fault::Code;
use shared::script::ScriptKind;

use super::compile::{ATTEMPTS, Verified, keeps_changing, unresolved};
use super::page::{Items, PageParams};
use super::precondition::{Preconditions, Resource, Tagged};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::scripts::{Rebundled, named, refuse_too_much};
use super::{Admin, access};
use crate::audit::{self, Entry};
use crate::auth::{Capability, Principal};
use crate::deploy::make_room;
use crate::modules;
use crate::store;
use crate::store::apps::App;
use crate::store::scripts::Script;
use crate::store::versions::Version;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    version: u32,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct RollbackAnswer {
    #[serde(flatten)]
    script: Script,
    /// Scripts that contain this module and got a new version with it.
    rebundled: Vec<Rebundled>,
}

impl Resource for RollbackAnswer {
    fn state(&self) -> &impl Serialize {
        &self.script
    }
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Path((app, name)): Path<(String, String)>,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<Version>>, ApiError> {
    let page = params.page::<u32>()?;
    let mut conn = admin.database.acquire().await?;
    let app = access::app(&mut conn, &principal, &app, Capability::ReadApp).await?;
    let script = access::script(&mut conn, &app, &name).await?;
    let rows = store::versions::page(&mut conn, app.id, script.id, page.after, page.rows()).await?;
    Ok(JsonBody(page.items(rows, |version| version.version.to_string())))
}

pub(super) async fn rollback(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, name)): Path<(String, String)>,
    preconditions: Preconditions,
    Json(body): Json<Rollback>,
) -> Result<Tagged<RollbackAnswer>, ApiError> {
    make_live(&admin, (&principal, &app), &name, body.version, &preconditions, Why::Rollback).await
}

/// Lets a version be live that asks for more than the live one.
pub(super) async fn approve(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Path((_, name, version)): Path<(String, String, String)>,
    preconditions: Preconditions,
) -> Result<Tagged<RollbackAnswer>, ApiError> {
    let missing = |_| ApiError::not_found("the script has no such version; a version is a number");
    let version = version.parse().map_err(missing)?;
    make_live(&admin, (&principal, &app), &name, version, &preconditions, Why::Approval).await
}

/// Why another version becomes the live one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Rollback,
    Approval,
}

async fn make_live(
    admin: &Admin,
    (principal, app): (&Principal, &App),
    name: &str,
    version: u32,
    preconditions: &Preconditions,
    why: Why,
) -> Result<Tagged<RollbackAnswer>, ApiError> {
    let mut verified = Verified::default();
    for _ in 0..ATTEMPTS {
        let mut tx = admin.database.begin().await?;
        access::lock(&mut tx, app).await?;
        let script = access::script(&mut tx, app, name).await?;
        preconditions.check(Some(&script))?;
        let Some(source) = store::modules::of_version(&mut tx, app.id, script.id, version).await? else {
            return Err(ApiError::not_found(format!("the script has no version {version}")));
        };
        let unapproved = store::approvals::wanted(&mut tx, app.id, script.id, version).await?;
        refuse_unless(why, version, unapproved)?;
        refuse_too_much(&mut tx, app, Some(&script), &source.text).await?;
        let dependents = match script.kind {
            // A version has all that it needs in it, however the app's modules are by now.
            ScriptKind::Endpoint => Vec::new(),
            ScriptKind::Module => {
                let text = source.text.clone();
                let planned = modules::plan(&mut tx, app.id, &script.name, source).await;
                let plan = planned.map_err(|error| unresolved(error, &script.name, &text, &[]))?;
                if !verified.knows_dependents(&plan) {
                    tx.rollback().await?;
                    verified.compile_dependents(admin, app, &script.name, plan.dependents).await?;
                    continue;
                }
                plan.dependents
            }
        };
        if why == Why::Approval {
            store::approvals::approve(&mut tx, app.id, script.id, version, principal.user.id).await?;
        }
        store::scripts::set_live(&mut tx, app.id, script.id, version).await?;
        let rebundled = modules::rebundle(&mut tx, app.id, &dependents, principal.user.id).await?;
        make_room(&mut tx, app.id).await?;
        let now = access::script(&mut tx, app, name).await?;
        let action = match why {
            Why::Rollback => "script.rollback",
            Why::Approval => "script.approve",
        };
        let entry = Entry::new(principal, action, &now.name).on(app.id).before(&script).after(&now);
        audit::append(&mut tx, entry).await?;
        admin.snapshot.publish(tx).await?;
        return Ok(Tagged(RollbackAnswer { script: now, rebundled: named(rebundled) }));
    }
    Err(keeps_changing())
}

/// What waits for approval is approved, and nothing else is.
fn refuse_unless(why: Why, version: u32, unapproved: Option<Vec<String>>) -> Result<(), ApiError> {
    match (why, unapproved) {
        (Why::Rollback, None) | (Why::Approval, Some(_)) => Ok(()),
        (Why::Rollback, Some(unapproved)) => {
            let wants = unapproved.join(", ");
            let detail = format!("version {version} waits until an admin of the app approves: {wants}");
            Err(ApiError::new(Code::Conflict, detail).with("unapproved", unapproved))
        }
        (Why::Approval, None) => {
            Err(ApiError::new(Code::Conflict, format!("version {version} does not wait for approval")))
        }
    }
}
