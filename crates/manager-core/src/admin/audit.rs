//! Reading the audit log, and proving that it is as it was written.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use shared::id::AppId;

use super::Admin;
use super::page::{Items, Page};
use super::problem::ApiError;
use super::read::Params;
use crate::audit::{self, Link, Verdict};
use crate::store;
use crate::store::apps::App;
use crate::store::audit::Filter;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditParams {
    action: Option<String>,
    /// A user's name.
    actor: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

pub(super) async fn of_instance(
    State(admin): State<Arc<Admin>>,
    Params(params): Params<AuditParams>,
) -> Result<JsonBody<Items<Link>>, ApiError> {
    list(&admin, None, params).await
}

pub(super) async fn of_app(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<AuditParams>,
) -> Result<JsonBody<Items<Link>>, ApiError> {
    list(&admin, Some(app.id), params).await
}

async fn list(
    admin: &Admin,
    app: Option<AppId>,
    params: AuditParams,
) -> Result<JsonBody<Items<Link>>, ApiError> {
    let AuditParams { action, actor, limit, cursor } = params;
    let page = Page::<i64>::new(limit, cursor.as_deref())?;
    for (field, text) in [("action", &action), ("actor", &actor)] {
        if text.as_ref().is_some_and(|text| text.contains('\0')) {
            let detail = format!("{field} contains the character U+0000");
            return Err(ApiError::invalid(detail).with("field", field));
        }
    }
    let filter = Filter { app, action, actor, before: page.after };
    let mut conn = admin.database.acquire().await?;
    let rows = store::audit::page(&mut conn, &filter, page.rows()).await?;
    Ok(JsonBody(page.items(rows, |link| link.number.to_string())))
}

pub(super) async fn verify(State(admin): State<Arc<Admin>>) -> Result<JsonBody<Verdict>, ApiError> {
    let mut tx = admin.database.begin_snapshot().await?;
    let verdict = audit::verify(&mut tx).await?;
    if let Some(number) = verdict.broken_at {
        tracing::error!(audit.number = number, "the audit log is not as it was written");
    }
    Ok(JsonBody(verdict))
}
