//! Which scripts of an app import which: the whole graph at once.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;
use shared::name::ScriptName;
use shared::script::ScriptKind;

use super::Admin;
use super::problem::ApiError;
use crate::store;
use crate::store::apps::App;

/// Scripts that a graph shows: ten times as many as a manifest may have, and about a megabyte.
const NODES_MAX: usize = 10_000;

#[derive(Serialize, JsonSchema)]
pub(super) struct Graph {
    /// Scripts, by name.
    nodes: Vec<Node>,
    /// Imports that stand in the live sources. A name that is no node is a module that was removed and that
    /// the live version still contains.
    edges: Vec<Edge>,
    /// False when the app has so many scripts that not all are here.
    is_whole: bool,
}

#[derive(Serialize, JsonSchema)]
struct Node {
    name: ScriptName,
    kind: ScriptKind,
    /// The live one.
    version: u32,
}

/// One script imports another.
#[derive(Serialize, JsonSchema)]
struct Edge {
    from: ScriptName,
    to: String,
}

pub(super) async fn graph(State(admin): State<Arc<Admin>>, app: App) -> Result<JsonBody<Graph>, ApiError> {
    let mut scripts = {
        let mut conn = admin.database.acquire().await?;
        store::modules::imports(&mut conn, app.id, NODES_MAX as i64 + 1).await?
    };
    let is_whole = scripts.len() <= NODES_MAX;
    scripts.truncate(NODES_MAX);
    let mut graph = Graph { nodes: Vec::with_capacity(scripts.len()), edges: Vec::new(), is_whole };
    for store::modules::Imports { name, kind, version, imports } in scripts {
        graph.edges.extend(imports.into_iter().map(|to| Edge { from: name.clone(), to }));
        graph.nodes.push(Node { name, kind, version });
    }
    Ok(JsonBody(graph))
}
