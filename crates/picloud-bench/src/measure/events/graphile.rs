//! graphile-worker, a job queue on PostgreSQL that is known to be fast, on the same server.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::subject::Database;

const DATABASE: &str = "graphile_worker_bench";

/// Jobs in a second, as it comes and with what makes it fastest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    pub(super) plain: f64,
    pub(super) tuned: f64,
}

/// None where it is not installed.
pub(super) fn measure(database: &Database, jobs: u32) -> anyhow::Result<Option<Rates>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("graphile-worker");
    let is_installed = dir.join("node_modules").is_dir();
    let node = PathBuf::from("node");
    if !is_installed || Command::new(&node).arg("--version").output().is_err() {
        return Ok(None);
    }
    database.create(DATABASE)?;
    let mut command = Command::new(node);
    command.arg(dir.join("bench.mjs")).arg(jobs.to_string()).env("PGDATABASE", DATABASE);
    for (name, value) in database.environment() {
        command.env(name, value);
    }
    let output = command.output().context("cannot start node")?;
    ensure!(output.status.success(), "graphile-worker: {}", String::from_utf8_lossy(&output.stderr).trim());
    let rates: Value = serde_json::from_slice(&output.stdout).context("graphile-worker answered no JSON")?;
    let rate = |name: &str| rates[name].as_f64().with_context(|| format!("graphile-worker gave no {name}"));
    Ok(Some(Rates { plain: rate("plain")?, tuned: rate("tuned")? }))
}
