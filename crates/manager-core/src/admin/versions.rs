//! Versions of a script, and going back to one.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use serde::Deserialize;

use super::page::{Items, PageParams};
use super::problem::ApiError;
use super::read::{Json, Params};
use super::{Admin, access};
use crate::audit::{self, Entry};
use crate::auth::{Capability, Principal};
use crate::store;
use crate::store::scripts::Script;
use crate::store::versions::Version;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    version: u32,
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
    Json(body): Json<Rollback>,
) -> Result<JsonBody<Script>, ApiError> {
    let mut tx = admin.database.begin().await?;
    let app = access::app(&mut tx, &principal, &app, Capability::WriteApp).await?;
    access::lock(&mut tx, &app).await?;
    let script = access::script(&mut tx, &app, &name).await?;
    if !store::scripts::set_live(&mut tx, app.id, script.id, body.version).await? {
        let detail = format!("the script has no version {}", body.version);
        return Err(ApiError::not_found(detail));
    }
    let now = access::script(&mut tx, &app, &name).await?;
    let entry = Entry::new(&principal, "script.rollback", &now.name).on(app.id).before(&script).after(&now);
    audit::append(&mut tx, entry).await?;
    admin.snapshot.publish(tx).await?;
    Ok(JsonBody(now))
}
