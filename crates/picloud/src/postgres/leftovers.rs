//! Ends what is left of an earlier server of the same cluster, after PiCloud or PostgreSQL was
//! killed. The lock on the data directory says that no living PiCloud owns these processes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long each request to leave gets before the next, stronger one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Stops every server process of a cluster and returns when they are gone.
pub(super) fn stop(cluster: &Path) -> anyhow::Result<()> {
    let left = processes_of(cluster);
    if left.is_empty() {
        return Ok(());
    }
    tracing::warn!(processes = left.len(), "stopping what is left of an earlier PostgreSQL");
    let postmaster = postmaster_of(cluster).filter(|pid| left.contains(pid));
    if let Some(postmaster) = postmaster {
        for signal in [Signal::SIGINT, Signal::SIGQUIT] {
            // A process that is already gone needs no signal.
            let _ = kill(postmaster, signal);
            if is_gone_within(cluster, PATIENCE) {
                return Ok(());
            }
        }
    } else if is_gone_within(cluster, PATIENCE) {
        // Children notice by themselves that their postmaster died.
        return Ok(());
    }
    for pid in processes_of(cluster) {
        // Committed transactions are in the write-ahead log; the next start replays it.
        let _ = kill(pid, Signal::SIGKILL);
    }
    if is_gone_within(cluster, PATIENCE) {
        return Ok(());
    }
    bail!("processes {:?} do not end even when killed", processes_of(cluster))
}

fn is_gone_within(cluster: &Path, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while !processes_of(cluster).is_empty() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// The server's main process according to `postmaster.pid`. The file may be stale, and its number
/// may by now be another program's.
fn postmaster_of(cluster: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
    text.lines().next()?.trim().parse().ok().map(Pid::from_raw)
}

/// The processes that are PostgreSQL's and work in this cluster: each of them has it as its
/// current directory for all its life.
fn processes_of(cluster: &Path) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .filter(|(_, process)| is_server_in(process, cluster))
        .map(|(pid, _)| Pid::from_raw(pid))
        .collect()
}

fn is_server_in(process: &Path, cluster: &Path) -> bool {
    let cwd: PathBuf = std::fs::read_link(process.join("cwd")).unwrap_or_default();
    cwd == cluster
        && std::fs::read_to_string(process.join("comm"))
            .is_ok_and(|name| matches!(name.trim(), "postgres" | "postmaster"))
}
