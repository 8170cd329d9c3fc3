//! Workers that are killed under load, again and again: how soon there is another, and whether
//! anything is left behind.

use std::collections::BTreeSet;
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

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let kills = bench.plan.kills;
    report.heading(format_args!("kill -9 of a worker under load, {kills} times"));
    let before = (descriptors(bench)?, at_rest(bench, 0)?.len());
    let load = Background::start(bench.picloud.address, "localhost", PATH, CONNECTIONS);
    let mut times = Vec::with_capacity(kills);
    for _ in 0..kills {
        let workers = at_rest(bench, before.1)?;
        let Some(victim) = workers.iter().next() else { continue };
        kill(Pid::from_raw((*victim).try_into()?), Signal::SIGKILL)?;
        let killed = Instant::now();
        while at_rest(bench, before.1)?.contains(victim) {}
        times.push(killed.elapsed().as_secs_f64() * 1e3);
    }
    drop(load);
    let after = (settled(bench, before.0)?, at_rest(bench, before.1)?.len());
    let middle = median(times.iter().copied());
    report.line(format_args!("  all workers and the spare there again after {middle:.0} ms"));
    report.line(format_args!("  descriptors {} before, {} after", before.0, after.0));
    report.goal("kill -9: replaced after", middle, Bound::AtMost(50.0), "ms");
    report.goal("kill -9: descriptors left behind", after.0 as f64 - before.0 as f64, Bound::AtMost(0.0), "");
    report.goal("kill -9: processes left behind", after.1 as f64 - before.1 as f64, Bound::AtMost(0.0), "");
    report.keep("recovery", json!({ "times_ms": times, "before": before, "after": after }));
    Ok(())
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

/// Descriptors once the connections of the load are closed.
fn settled(bench: &Bench, wanted: usize) -> anyhow::Result<usize> {
    let since = Instant::now();
    loop {
        let count = descriptors(bench)?;
        if count <= wanted || since.elapsed() > REPLACED_WITHIN {
            return Ok(count);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn descriptors(bench: &Bench) -> anyhow::Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{}/fd", bench.picloud.pid()))?.count())
}
