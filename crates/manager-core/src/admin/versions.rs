//! Versions of a script, and going back to one.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::script::ScriptKind;

use super::compile::{ATTEMPTS, Verified, keeps_changing, unresolved};
use super::page::{Items, PageParams};
use super::precondition::{Preconditions, Resource, Tagged};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::scripts::{Rebundled, named};
use super::{Admin, access};
use crate::audit::{self, Entry};
use crate::auth::{Capability, Principal};
use crate::modules;
use crate::store;
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
    Path((app, name)): Path<(String, String)>,
    preconditions: Preconditions,
    Json(body): Json<Rollback>,
) -> Result<Tagged<RollbackAnswer>, ApiError> {
    let mut verified = Verified::default();
    for _ in 0..ATTEMPTS {
        let mut tx = admin.database.begin().await?;
        let app = access::app(&mut tx, &principal, &app, Capability::WriteApp).await?;
        access::lock(&mut tx, &app).await?;
        let script = access::script(&mut tx, &app, &name).await?;
        preconditions.check(Some(&script))?;
        let Some(source) = store::modules::of_version(&mut tx, app.id, script.id, body.version).await? else {
            return Err(ApiError::not_found(format!("the script has no version {}", body.version)));
        };
        let dependents = match script.kind {
            // A version has all that it needs in it, however the app's modules are by now.
            ScriptKind::Endpoint => Vec::new(),
            ScriptKind::Module => {
                let text = source.text.clone();
                let planned = modules::plan(&mut tx, app.id, &script.name, source).await;
                let plan = planned.map_err(|error| unresolved(error, &script.name, &text, &[]))?;
                if !verified.knows_dependents(&plan) {
                    tx.rollback().await?;
                    verified.compile_dependents(&admin, &app, &script.name, plan.dependents).await?;
                    continue;
                }
                plan.dependents
            }
        };
        store::scripts::set_live(&mut tx, app.id, script.id, body.version).await?;
        let rebundled = modules::rebundle(&mut tx, app.id, &dependents, principal.user.id).await?;
        let now = access::script(&mut tx, &app, &name).await?;
        let entry =
            Entry::new(&principal, "script.rollback", &now.name).on(app.id).before(&script).after(&now);
        audit::append(&mut tx, entry).await?;
        admin.snapshot.publish(tx).await?;
        return Ok(Tagged(RollbackAnswer { script: now, rebundled: named(rebundled) }));
    }
    Err(keeps_changing())
}
