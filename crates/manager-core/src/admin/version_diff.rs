//! What differs between two versions of a script.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::fault::Code;
use shared::limits::ScriptLimits;
use shared::script::Bundle;
use sqlx::postgres::PgConnection;

use super::problem::ApiError;
use super::read::Params;
use super::{Admin, access};
use crate::diff;
use crate::plan::fields;
use crate::store;
use crate::store::apps::App;
use crate::store::scripts::Script;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DiffParams {
    /// The live version unless given.
    to: Option<u32>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct VersionDiff {
    from: u32,
    to: u32,
    /// Unified diff of the script and the modules in it, as they were in each version.
    diff: String,
    /// `{field: {from, to}}` of the limits that differ.
    limits: Map<String, Value>,
}

pub(super) async fn diff(
    State(admin): State<Arc<Admin>>,
    app: App,
    Path((_, name, from)): Path<(String, String, String)>,
    Params(DiffParams { to }): Params<DiffParams>,
) -> Result<JsonBody<VersionDiff>, ApiError> {
    let (from, to, old, new) = {
        let mut conn = admin.database.acquire().await?;
        let script = access::script(&mut conn, &app, &name).await?;
        let missing = |_| ApiError::not_found("the script has no such version; a version is a number");
        let from: u32 = from.parse().map_err(missing)?;
        let to = to.unwrap_or(script.version);
        let old = content(&mut conn, &app, &script, from).await?;
        (from, to, old, content(&mut conn, &app, &script, to).await?)
    };
    let limits = fields::limits(&old.1, &new.1);
    let diff = compared(move || diff::unified(&diff::files(&old.0), &diff::files(&new.0))).await?;
    Ok(JsonBody(VersionDiff { from, to, diff, limits }))
}

/// Comparing takes up to a second of CPU, for which other requests need not wait.
pub(super) async fn compared<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "two versions could not be compared");
        ApiError::new(Code::Internal, "the versions could not be compared")
    })
}

async fn content(
    conn: &mut PgConnection,
    app: &App,
    script: &Script,
    version: u32,
) -> Result<(Bundle, ScriptLimits), ApiError> {
    let found = store::versions::content(conn, app.id, script.id, version).await?;
    found.ok_or_else(|| ApiError::not_found(format!("the script has no version {version}")))
}
