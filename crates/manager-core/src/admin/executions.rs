//! Executions: what ran and what came of it.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::id::{DeliveryId, ExecutionId, ScriptId};
use shared::invocation::ExecutionStatus;
use shared::script::BundleHash;

use super::Admin;
use super::page::{Items, Page};
use super::problem::ApiError;
use super::read::Params;
use crate::store;
use crate::store::apps::App;
use crate::store::executions::{ExecutionRow, Filter};

/// An execution as the API shows it. Only answers about one execution carry its logs.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Execution {
    id: ExecutionId,
    script: String,
    script_id: ScriptId,
    version: i32,
    bundle_hash: BundleHash,
    request_id: String,
    invocation_type: String,
    /// Where the chain of events began that led to it: this execution itself, unless another did.
    root_id: ExecutionId,
    /// The execution that brought it about.
    parent_id: Option<ExecutionId>,
    /// Events between the beginning and this.
    depth: i32,
    /// The delivery that it was an attempt of.
    delivery_id: Option<DeliveryId>,
    attempt: Option<i32>,
    status: String,
    http_status: Option<i16>,
    started_at: DateTime<Utc>,
    duration_ms: f64,
    queued_ms: f64,
    fuel: i64,
    peak_memory_bytes: i64,
    host_calls: i32,
    error: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logs: Option<Box<RawValue>>,
}

impl Execution {
    pub(super) fn with_logs(row: ExecutionRow) -> Self {
        let logs = row.logs.clone();
        Self { logs: Some(logs), ..Self::without_logs(row) }
    }

    pub(super) fn without_logs(row: ExecutionRow) -> Self {
        Self {
            id: row.id,
            script: row.script_name,
            script_id: row.script_id,
            version: row.version,
            bundle_hash: row.bundle_hash,
            request_id: row.request_id,
            invocation_type: row.invocation_type,
            root_id: row.root_id.unwrap_or(row.id),
            parent_id: row.parent_id,
            depth: row.depth,
            delivery_id: row.delivery_id,
            attempt: row.attempt,
            status: row.status,
            http_status: row.http_status,
            started_at: row.started_at,
            duration_ms: milliseconds(row.duration_us),
            queued_ms: milliseconds(row.queued_us),
            fuel: row.fuel,
            peak_memory_bytes: row.peak_memory_bytes,
            host_calls: row.host_calls,
            error: row.error,
            logs: None,
        }
    }
}

fn milliseconds(us: i64) -> f64 {
    us as f64 / 1_000.0
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    script: Option<String>,
    status: Option<String>,
    /// Attempts of this delivery only.
    delivery: Option<String>,
    /// RFC 3339.
    since: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<ListParams>,
) -> Result<JsonBody<Items<Execution>>, ApiError> {
    let page = Page::<ExecutionId>::new(params.limit, params.cursor.as_deref())?;
    let filter = Filter {
        script: params.script.as_deref().map(script).transpose()?,
        status: params.status.as_deref().map(status).transpose()?,
        since: params.since.as_deref().map(since).transpose()?,
        delivery: params.delivery.as_deref().map(delivery).transpose()?,
        before: page.after,
    };
    let mut conn = admin.database.acquire().await?;
    let rows = store::executions::page(&mut conn, app.id, &filter, page.rows()).await?;
    Ok(JsonBody(page.items(rows, |row| row.id.to_string()).map(Execution::without_logs)))
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    app: App,
    Path((_, id)): Path<(String, String)>,
) -> Result<JsonBody<Execution>, ApiError> {
    let mut conn = admin.database.acquire().await?;
    let missing = || ApiError::not_found("the app has no such execution");
    let id = id.parse().map_err(|_| missing())?;
    let row = store::executions::by_id(&mut conn, app.id, id).await?.ok_or_else(missing)?;
    Ok(JsonBody(Execution::with_logs(row)))
}

/// Any name: executions outlive their scripts.
fn script(text: &str) -> Result<&str, ApiError> {
    match text.contains('\0') {
        true => Err(ApiError::invalid("script contains the character U+0000").with("field", "script")),
        false => Ok(text),
    }
}

fn status(text: &str) -> Result<&'static str, ApiError> {
    let known = ExecutionStatus::ALL.map(ExecutionStatus::as_str);
    known.into_iter().find(|status| *status == text).ok_or_else(|| {
        ApiError::invalid(format!("status is one of {}", known.join(", "))).with("field", "status")
    })
}

fn delivery(text: &str) -> Result<DeliveryId, ApiError> {
    text.parse().map_err(|_| ApiError::invalid("delivery is the id of a delivery").with("field", "delivery"))
}

fn since(text: &str) -> Result<DateTime<Utc>, ApiError> {
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .map_err(|_| ApiError::invalid("since is a time such as 2026-01-31T12:00:00Z").with("field", "since"))
}
