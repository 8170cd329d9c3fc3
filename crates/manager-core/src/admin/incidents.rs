//! Workers that misbehaved while scripts of an app ran, and letting a quarantined script go.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use http::StatusCode;
use shared::fault::Code;
use shared::id::IncidentId;

use super::page::{Items, PageParams};
use super::problem::ApiError;
use super::read::Params;
use super::{Admin, access};
use crate::audit::{self, Entry};
use crate::auth::{Capability, Principal};
use crate::store;
use crate::store::incidents::IncidentRow;

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Path(app): Path<String>,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<IncidentRow>>, ApiError> {
    let page = params.page::<IncidentId>()?;
    let mut conn = admin.database.acquire().await?;
    let app = access::app(&mut conn, &principal, &app, Capability::ReadApp).await?;
    let rows = store::incidents::page(&mut conn, app.id, page.after, page.rows()).await?;
    Ok(JsonBody(page.items(rows, |incident| incident.id.to_string())))
}

pub(super) async fn release(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    Path((app, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let mut tx = admin.database.begin().await?;
    let app = access::app(&mut tx, &principal, &app, Capability::ReleaseScripts).await?;
    access::lock(&mut tx, &app).await?;
    let script = access::script(&mut tx, &app, &name).await?;
    let released = store::incidents::release(&mut tx, app.id, script.id).await?;
    if released.is_empty() {
        return Err(ApiError::new(Code::Conflict, "the script is not quarantined"));
    }
    let entry = Entry::new(&principal, "script.release", &script.name).on(app.id);
    audit::append(&mut tx, entry).await?;
    admin.incidents.publish_release(tx.commit(), released).await?;
    Ok(StatusCode::NO_CONTENT)
}
