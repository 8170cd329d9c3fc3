//! Workers that answer honestly, and stay where they are when they are to leave.

use std::path::Path;
use std::time::Duration;

use orchestrator_core::pool::{Mode, PoolConfig};

use super::parent::{Farm, Tenant, eventually};
use super::tenancy::config;

/// Three owners and room for two workers: the third one is answered when the first one's has gone, or is at least replaced.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn who_is_evicted_does_not_stay() {
    stays(&Farm::start(config(Mode::Pinned, 1, 1)).await).await;
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn who_is_recycled_does_not_stay() {
    let config = PoolConfig { recycle_after: 1, ..config(Mode::Shared, 1, 1) };
    stays(&Farm::start(config).await).await;
}

async fn stays(farm: &Farm) {
    let hostile = Tenant::new();
    let pid = farm.pid_of(&hostile, "pid-and-stay").await;
    for _ in 0..2 {
        assert_ne!(farm.pid(&Tenant::new()).await, pid, "whoever comes next does not wait for it");
    }
    let process = format!("/proc/{pid}");
    eventually("the one that stays is gone", || !Path::new(&process).exists()).await;
    assert_eq!(farm.suspects(1).await, [(hostile.script, true)]);
    println!("| 49 a worker that ignores the order to leave | killed, and its script blamed | killed |");
    farm.pool.drain(Duration::from_secs(1)).await;
}
