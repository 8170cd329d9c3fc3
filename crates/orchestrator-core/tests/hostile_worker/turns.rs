//! Who starts next of those who wait: by the fuel that workers report.

use std::sync::Arc;
use std::time::Duration;

use orchestrator_core::pool::{Mode, PoolConfig};

use super::parent::{Farm, Tenant, eventually, invocation_within};
use super::tenancy::{config, futures};

/// Requests of each app.
const EACH: usize = 5;

/// What has ended is charged to its app: after one execution that burns as much as fifty turns are worth, all of the
/// other app's start before the next.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn who_burns_much_waits_for_who_does_not() {
    // Load has one slot, so executions end in the order in which they start.
    let farm = Farm::start(PoolConfig { slots_per_worker: 2, ..config(Mode::Shared, 1, 1) }).await;
    let farm = Arc::new(farm);
    eventually("the worker is there", || farm.pool.status().workers_ready == 1).await;
    let [first, greedy, modest] = [(); 3].map(|()| Tenant::new());
    let holds = tokio::spawn({
        let farm = Arc::clone(&farm);
        async move { farm.work(invocation_within(15_000, &first, "call-for-ever")).await }
    });
    eventually("the slot is taken", || farm.pool.status().executions_running == 1).await;
    let apps = [(greedy, "costly"), (modest, "honest")];
    let jobs = apps.iter().cycle().take(2 * EACH);
    let load = futures(jobs.map(|(app, behaviour)| farm.work(invocation_within(8_000, app, behaviour))));
    let release = async {
        eventually("all wait", || farm.pool.status().executions_queued == 2 * EACH).await;
        holds.abort();
    };
    tokio::join!(load, release);
    let ended = || farm.ended().into_iter().filter(move |app| *app != first.app);
    eventually("all have ended", || ended().count() == 2 * EACH).await;
    let order: String = ended().map(|app| if app == greedy.app { 'g' } else { 'm' }).collect();
    assert_eq!(order, format!("g{}{}", "m".repeat(EACH), "g".repeat(EACH - 1)));
    farm.pool.drain(Duration::from_secs(1)).await;
}
