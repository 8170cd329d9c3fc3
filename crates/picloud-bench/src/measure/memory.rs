//! Scripts that take all the memory they may, again and again: what stays taken.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{bail, ensure};
use serde_json::{Value, json};

use super::Bench;
use crate::load;
use crate::process;
use crate::report::{Bound, Report};

/// Takes more and more, until it may not.
const SOURCE: &str = "let all = []; loop { all.push(blob(1000000, 7)); }";
/// Runs after which those slots have been used that so many connections come to.
const FIRST: usize = 50;
const CONNECTIONS: usize = 16;
const MEMORY_EXCEEDED: u16 = 507;
/// More or less than before, of one process: a share of what it had.
const CHANGE_MAX: f64 = 0.1;

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let runs = bench.plan.memory_runs;
    report.heading(format_args!("A script that takes all its memory, {runs} times"));
    bench.admin.deploy("bench-memory", SOURCE, &json!({}))?;
    bench.admin.route("/bench/memory", "bench-memory")?;
    let address = bench.picloud.address;
    take(address, FIRST.min(runs), CONNECTIONS)?;
    let before = Resident::look(bench)?;
    // As many at once come last, as they did before the first look.
    take(address, runs / 2, 1)?;
    take(address, runs - runs / 2, CONNECTIONS)?;
    let after = Resident::look(bench)?;
    judge(&before, &after, report);
    report.keep(
        "memory_runs",
        json!({ "runs": runs, "before_kib": before.to_json(), "after_kib": after.to_json() }),
    );
    Ok(())
}

/// So many runs, on so many connections at a time.
fn take(address: SocketAddr, runs: usize, connections: usize) -> anyhow::Result<()> {
    let shares = (0..connections).map(|index| runs / connections + usize::from(index < runs % connections));
    std::thread::scope(|scope| {
        let threads: Vec<_> = shares.map(|share| scope.spawn(move || take_in_turn(address, share))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a client thread failed")))
    })
}

fn take_in_turn(address: SocketAddr, runs: usize) -> anyhow::Result<()> {
    for _ in 0..runs {
        let status = load::ask(address, "localhost", "/bench/memory")?.status;
        ensure!(status == MEMORY_EXCEEDED, "the script that takes all its memory answered {status}");
    }
    Ok(())
}

/// Resident memory in KiB.
#[derive(Debug)]
struct Resident {
    parent: u64,
    /// By process id, spares included.
    workers: BTreeMap<u32, u64>,
}

impl Resident {
    /// Once what is only for a while is given back.
    fn look(bench: &Bench) -> anyhow::Result<Self> {
        std::thread::sleep(bench.plan.settle);
        let resident = |pid| anyhow::Ok(process::memory(pid)?.resident_kib);
        let workers = bench.picloud.workers().into_iter().map(|pid| anyhow::Ok((pid, resident(pid)?)));
        Ok(Self { parent: resident(bench.picloud.pid())?, workers: workers.collect::<anyhow::Result<_>>()? })
    }

    fn to_json(&self) -> Value {
        json!({ "parent": self.parent, "workers": self.workers })
    }
}

/// Each process by itself: in a sum, what a small one leaks is within what a large one may.
fn judge(before: &Resident, after: &Resident, report: &mut Report) {
    let change = |before: u64, after: u64| after as f64 / before as f64 - 1.0;
    let parent = change(before.parent, after.parent);
    report.line(format_args!("  parent: {} KiB before, {} KiB after", before.parent, after.parent));
    let (mut worker, mut ended) = (f64::NAN, 0_u32);
    for (pid, before) in &before.workers {
        match after.workers.get(pid) {
            Some(after) => {
                report.line(format_args!("  worker {pid}: {before} KiB before, {after} KiB after"));
                worker = change(*before, *after).abs().max(worker);
            }
            None => ended += 1,
        }
    }
    let bound = Bound::AtMost(CHANGE_MAX);
    report.goal("memory: parent, change either way", parent.abs(), bound, "×");
    report.goal("memory: worker that changed most, either way", worker, bound, "×");
    // What it had leaked is gone with it.
    report.goal("memory: workers that ended meanwhile", f64::from(ended), Bound::AtMost(0.0), "");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident(parent: u64, workers: &[(u32, u64)]) -> Resident {
        Resident { parent, workers: workers.iter().copied().collect() }
    }

    fn is_well(before: &Resident, after: &Resident) -> bool {
        let mut report = Report::default();
        judge(before, after, &mut report);
        report.verdict()
    }

    #[test]
    fn each_process_is_held_to_its_own_memory_and_not_to_the_sum() {
        let before = resident(40_000, &[(1, 80_000), (2, 80_000)]);
        assert!(is_well(&before, &resident(43_000, &[(1, 87_000), (2, 73_000)])));
        assert!(
            !is_well(&before, &resident(50_000, &[(1, 80_000), (2, 80_000)])),
            "the parent leaks a quarter"
        );
        assert!(!is_well(&before, &resident(40_000, &[(1, 80_000), (2, 90_000)])), "one worker leaks");
        assert!(!is_well(&before, &resident(40_000, &[(1, 80_000), (2, 60_000)])), "it was not warm before");
    }

    #[test]
    fn a_worker_that_ended_takes_its_leak_along_and_is_missed() {
        let before = resident(40_000, &[(1, 80_000), (2, 80_000)]);
        assert!(!is_well(&before, &resident(40_000, &[(1, 80_000), (3, 80_000)])));
        assert!(is_well(&before, &resident(40_000, &[(1, 80_000), (2, 80_000), (3, 20_000)])), "one is new");
        assert!(!is_well(&resident(40_000, &[]), &resident(40_000, &[])), "no worker was looked at");
    }
}
