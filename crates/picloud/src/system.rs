//! What the machine is like, for those who run it: the doctor's report and the workers, as a part of
//! the admin API. The manager knows neither, so this part is made here, and guarded there.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use manager_core::Beside;
use orchestrator_core::pool::{Pool, PoolStatus, WorkerStatus};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::Mutex;

use crate::config::Config;
use crate::doctor::{self, Report, Running};

struct System {
    config: Config,
    pool: Pool,
    database: PgConnectOptions,
    /// One report at a time: each starts a worker to look at it.
    examining: Arc<Mutex<()>>,
}

/// To be merged below the manager's guard.
pub fn router(config: Config, pool: Pool, database: PgConnectOptions) -> Router {
    Router::new()
        .route("/api/v1/admin/system/isolation", get(isolation))
        .route("/api/v1/admin/system/workers", get(workers))
        .with_state(Arc::new(System { config, pool, database, examining: Arc::default() }))
}

/// The same for the API's document.
pub fn described() -> [Beside; 2] {
    [
        Beside::json::<Isolation>(
            "/api/v1/admin/system/isolation",
            "system_isolation",
            "Which walls hold on this machine, as `picloud doctor` says it",
        ),
        Beside::json::<Workers>("/api/v1/admin/system/workers", "system_workers", "The worker processes"),
    ]
}

#[derive(Serialize, JsonSchema)]
struct Isolation {
    mode: &'static str,
    /// The layers around the workers that run, by name.
    layers: Vec<&'static str>,
    /// Those that are not there and that nothing makes up for.
    missing: Vec<&'static str>,
    #[serde(flatten)]
    report: Report,
}

async fn isolation(State(system): State<Arc<System>>) -> Json<Isolation> {
    // Who leaves before their turn has had nothing started.
    let turn = Arc::clone(&system.examining).lock_owned().await;
    // In a task of its own: the worker that it starts is to be ended and waited for although the caller has gone.
    let examining = tokio::spawn(async move {
        let _turn = turn;
        let running = Running { grouping: system.pool.grouping(), database: &system.database };
        let report = doctor::examine(&system.config, Some(running)).await;
        let walls = system.pool.isolation();
        Isolation {
            mode: system.pool.mode().as_str(),
            layers: walls.claimed.names().collect(),
            missing: walls.missing().names().collect(),
            report,
        }
    });
    // Nobody cancels it, so what it can fail by is a panic, which is no other here than it was there.
    Json(examining.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())))
}

#[derive(Serialize, JsonSchema)]
struct Workers {
    #[serde(flatten)]
    pool: PoolStatus,
    items: Vec<WorkerStatus>,
}

async fn workers(State(system): State<Arc<System>>) -> Json<Workers> {
    Json(Workers { pool: system.pool.status(), items: system.pool.workers() })
}
