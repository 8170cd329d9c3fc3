//! Why an execution ran: the chain of events it is part of, as a tree.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::id::{DeliveryId, ExecutionId};

use super::Admin;
use super::problem::ApiError;
use crate::store;
use crate::store::apps::App;
use crate::store::executions::ExecutionRow;

/// Executions of one answer: a chain may be as wide as a script likes to make it.
const NODES_MAX: i64 = 1_000;

/// A chain of events.
#[derive(Serialize, JsonSchema)]
pub(super) struct Causation {
    /// Where it began: an execution, or the first delivery when no execution began it.
    root_id: ExecutionId,
    /// Whether the chain has more executions than are shown.
    is_truncated: bool,
    /// What began the chain, each with what it brought about. Several, when records of those before
    /// are not kept any more.
    tree: Vec<Node>,
}

/// An execution with what it brought about.
#[derive(Serialize, JsonSchema)]
struct Node {
    id: ExecutionId,
    script: String,
    invocation_type: String,
    status: String,
    started_at: DateTime<Utc>,
    depth: i32,
    delivery_id: Option<DeliveryId>,
    attempt: Option<i32>,
    /// The execution that was asked about.
    is_this: bool,
    caused: Vec<Node>,
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    app: App,
    Path((_, id)): Path<(String, String)>,
) -> Result<JsonBody<Causation>, ApiError> {
    let missing = || ApiError::not_found("the app has no such execution");
    let id: ExecutionId = id.parse().map_err(|_| missing())?;
    let mut conn = admin.database.acquire().await?;
    let this = store::executions::by_id(&mut conn, app.id, id).await?.ok_or_else(missing)?;
    let root_id = this.root_id.unwrap_or(this.id);
    let mut rows = store::executions::of_chain(&mut conn, app.id, root_id, NODES_MAX + 1).await?;
    let is_truncated = rows.len() as i64 > NODES_MAX;
    rows.truncate(usize::try_from(NODES_MAX).unwrap_or(usize::MAX));
    Ok(JsonBody(Causation { root_id, is_truncated, tree: tree(rows, id) }))
}

/// Puts executions, the oldest first, below those that brought them about.
fn tree(rows: Vec<ExecutionRow>, this: ExecutionId) -> Vec<Node> {
    let known: HashSet<_> = rows.iter().map(|row| row.id).collect();
    let mut below: HashMap<Option<ExecutionId>, Vec<Node>> = HashMap::new();
    // The deepest first: what an execution brought about is complete when it is put in its own place.
    let mut rows = rows;
    rows.sort_by_key(|row| (std::cmp::Reverse(row.depth), row.id));
    for row in rows {
        let parent = row.parent_id.filter(|parent| known.contains(parent) && *parent != row.id);
        let node = Node {
            caused: below.remove(&Some(row.id)).unwrap_or_default(),
            is_this: row.id == this,
            id: row.id,
            script: row.script_name,
            invocation_type: row.invocation_type,
            status: row.status,
            started_at: row.started_at,
            depth: row.depth,
            delivery_id: row.delivery_id,
            attempt: row.attempt,
        };
        below.entry(parent).or_default().push(node);
    }
    below.remove(&None).unwrap_or_default()
}
