//! Scripts that take all the memory they may, again and again: what stays taken.

use anyhow::ensure;
use serde_json::json;

use super::Bench;
use crate::load;
use crate::process;
use crate::report::{Bound, Report};

/// Takes more and more, until it may not.
const SOURCE: &str = "let all = []; loop { all.push(blob(1000000, 7)); }";
/// Runs after which every slot has been used.
const FIRST: usize = 50;
const MEMORY_EXCEEDED: u16 = 507;

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let runs = bench.plan.memory_runs;
    report.heading(format_args!("A script that takes all its memory, {runs} times"));
    bench.admin.deploy("bench-memory", SOURCE, &json!({}))?;
    bench.admin.route("/bench/memory", "bench-memory")?;
    let take = |count| -> anyhow::Result<()> {
        for _ in 0..count {
            let status = load::ask(bench.picloud.address, "localhost", "/bench/memory")?.status;
            ensure!(status == MEMORY_EXCEEDED, "the script that takes all its memory answered {status}");
        }
        Ok(())
    };
    take(FIRST.min(runs))?;
    let before = resident(bench)?;
    take(runs)?;
    let after = resident(bench)?;
    report.line(format_args!("  parent and workers: {} KiB before, {} KiB after", before, after));
    report.goal("memory: after / before", after as f64 / before as f64, Bound::AtMost(1.1), "×");
    report.keep("memory_runs", json!({ "runs": runs, "before_kib": before, "after_kib": after }));
    Ok(())
}

fn resident(bench: &Bench) -> anyhow::Result<u64> {
    let pids = std::iter::once(bench.picloud.pid()).chain(bench.picloud.workers());
    pids.map(|pid| Ok(process::memory(pid)?.resident_kib)).sum()
}
