//! Workers that are killed under load, again and again: how soon there is another, who notices, and
//! whether anything is left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::ensure;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::Bench;
use crate::baseline::PATH;
use crate::load::Background;
use crate::report::{Bound, Report, median};

const CONNECTIONS: usize = 8;
const REPLACED_WITHIN: Duration = Duration::from_secs(10);
/// Kills before anything is counted, after which everything that is opened once and kept is open: the
/// connections to the database, for example.
const FIRST: usize = 5;

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let kills = bench.plan.kills;
    report.heading(format_args!("kill -9 of a worker under load, {kills} times"));
    let at_first = at_rest(bench, 0)?.len();
    let load = Background::start(bench.picloud.address, "localhost", PATH, CONNECTIONS);
    kill_in_turn(bench, at_first, FIRST)?;
    load.stop();
    let before = (descriptors_at_rest(bench)?, at_rest(bench, at_first)?.len());

    let load = Background::start(bench.picloud.address, "localhost", PATH, CONNECTIONS);
    let times = kill_in_turn(bench, at_first, kills)?;
    let tally = load.stop();
    let after = (descriptors_at_rest(bench)?, at_rest(bench, at_first)?.len());

    let middle = median(times.iter().copied());
    let slowest = times.iter().copied().fold(0.0, f64::max);
    let (open_before, open_after): (usize, usize) = (before.0.values().sum(), after.0.values().sum());
    report.line(format_args!(
        "  all workers and the spares there again after {middle:.0} ms, at most {slowest:.0} ms"
    ));
    report.line(format_args!(
        "  {} answered, {} lost with their worker, {} failed otherwise",
        tally.answered, tally.lost, tally.failed
    ));
    report.line(format_args!("  descriptors {open_before} before {:?}", before.0));
    report.line(format_args!("              {open_after} after  {:?}", after.0));
    let per_kill = tally.lost as f64 / kills as f64;
    report.goal("kill -9: replaced after", middle, Bound::AtMost(50.0), "ms");
    report.goal("kill -9: lost with a worker", per_kill, Bound::AtMost(CONNECTIONS as f64), "each");
    report.goal("kill -9: failed otherwise", tally.failed as f64, Bound::AtMost(0.0), "");
    let left = open_after as f64 - open_before as f64;
    report.goal("kill -9: descriptors left behind", left, Bound::AtMost(0.0), "");
    report.goal("kill -9: processes left behind", after.1 as f64 - before.1 as f64, Bound::AtMost(0.0), "");
    report.keep(
        "recovery",
        json!({
            "times_ms": times, "before": before, "after": after, "answered": tally.answered,
            "lost": tally.lost, "failed": tally.failed,
        }),
    );
    Ok(())
}

/// Kills the oldest worker, so many times, each time when all are there again. Answers how long that
/// took, in milliseconds.
fn kill_in_turn(bench: &Bench, workers: usize, kills: usize) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::with_capacity(kills);
    for _ in 0..kills {
        let there = at_rest(bench, workers)?;
        // The spares are younger.
        let Some(victim) = there.first() else { continue };
        kill(Pid::from_raw((*victim).try_into()?), Signal::SIGKILL)?;
        let killed = Instant::now();
        while at_rest(bench, workers)?.contains(victim) {}
        times.push(killed.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// The workers, once there are as many as there should be.
fn at_rest(bench: &Bench, wanted: usize) -> anyhow::Result<BTreeSet<u32>> {
    let since = Instant::now();
    loop {
        let workers: BTreeSet<u32> = bench.picloud.workers().into_iter().collect();
        if workers.len() >= wanted.max(1) {
            return Ok(workers);
        }
        ensure!(since.elapsed() < REPLACED_WITHIN, "{} of {wanted} workers are there", workers.len());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How many descriptors of each kind are open, once the connections of the load are closed and nothing
/// changes any more.
fn descriptors_at_rest(bench: &Bench) -> anyhow::Result<BTreeMap<String, usize>> {
    std::thread::sleep(bench.plan.settle);
    let mut kinds = BTreeMap::new();
    for entry in std::fs::read_dir(format!("/proc/{}/fd", bench.picloud.pid()))?.flatten() {
        // One that is closed meanwhile leads nowhere.
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy();
        let kind = target.split(':').next().unwrap_or_default().trim_start_matches('/').to_owned();
        let kind = if target.starts_with("anon_inode") { target.into_owned() } else { kind };
        *kinds.entry(kind).or_default() += 1;
    }
    Ok(kinds)
}
