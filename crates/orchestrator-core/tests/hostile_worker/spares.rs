//! Workers that end before they are given any work.

use std::collections::HashSet;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use orchestrator_core::pool::Mode;
use shared::invocation::ExecutionStatus;

use super::parent::{Farm, Tenant, eventually};
use super::tenancy::config;

/// How the kernel says a process is, and who its parent is; nothing when it is gone and was waited for.
fn state(pid: u32) -> Option<(String, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned);
    Some((fields.next()?, fields.next()?))
}

fn is_dead(pid: u32) -> bool {
    state(pid).is_none_or(|(state, _)| state == "Z")
}

/// What this process has started and not waited for.
fn children() -> HashSet<u32> {
    let own = std::process::id().to_string();
    let all = std::fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| state(*pid).is_some_and(|(_, parent)| parent == own)).collect()
}

/// Kills the spare, once it is one that somebody would notice only who needs it.
async fn kill_spare(farm: &Farm, strangers: &HashSet<u32>) {
    let spare = || children().difference(strangers).copied().find(|pid| !is_dead(*pid));
    loop {
        eventually("there is a spare", || spare().is_some()).await;
        let pid = spare().unwrap();
        // While others work it gets ready, and whoever makes it sees that it is; or that it has died meanwhile, and
        // makes another.
        work(farm).await;
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
        eventually("it is dead", || is_dead(pid)).await;
        work(farm).await;
        if state(pid).is_some() {
            return;
        }
    }
}

async fn work(farm: &Farm) {
    let user = Tenant::new();
    for _ in 0..20 {
        farm.pid(&user).await;
    }
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn who_died_while_it_waited_is_given_no_work() {
    let mut strangers = children();
    let farm = Farm::start(config(Mode::Shared, 1, 1)).await;
    strangers.insert(farm.pid(&Tenant::new()).await);
    kill_spare(&farm, &strangers).await;
    assert_eq!(farm.run(&Tenant::new(), "exit").await.status, ExecutionStatus::WorkerLost);
    assert_eq!(farm.run(&Tenant::new(), "honest").await.status, ExecutionStatus::Ok);
    assert_eq!(farm.pool.status().workers_lost, 1, "the spare was none");
    farm.pool.drain(Duration::from_secs(1)).await;
}
