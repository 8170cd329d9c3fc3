//! Scripts that only compute: what the wall costs where there is no input or output.

use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::json;

use super::Bench;
use super::hello::micros;
use crate::baseline::Native;
use crate::report::{Bound, Report, median};

const SCRIPTS: [(&str, &str); 4] = [
    ("fib", include_str!("scripts/fib.rhai")),
    ("loops", include_str!("scripts/loops.rhai")),
    ("strings", include_str!("scripts/strings.rhai")),
    ("maps", include_str!("scripts/maps.rhai")),
];
const GOAL: f64 = 1.8;

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    report.heading("CPU-bound scripts: execution time in ms, medians of pairs");
    report.line("  script      native    PiCloud     ratio       fuel   fuel/µs");
    let mut kept = Vec::new();
    for (name, source) in SCRIPTS {
        let measured = compare(bench, name, source)?;
        let Measured { native_us, picloud_us, ratio, fuel } = measured;
        report.line(format_args!(
            "  {name:<8} {:>9.1} {:>10.1} {ratio:>8.2}× {fuel:>10.2e} {:>9.0}",
            native_us / 1e3,
            picloud_us / 1e3,
            fuel / picloud_us
        ));
        report.goal(format!("{name}: time / native Rhai"), ratio, Bound::AtMost(GOAL), "×");
        kept.push(json!({
            "script": name, "native_us": native_us, "picloud_us": picloud_us, "ratio": ratio, "fuel": fuel,
        }));
    }
    report.keep("cpu", kept.into());
    Ok(())
}

struct Measured {
    native_us: f64,
    picloud_us: f64,
    ratio: f64,
    fuel: f64,
}

fn compare(bench: &Bench, name: &str, source: &str) -> anyhow::Result<Measured> {
    let native = Native::compile(source)?;
    let script = format!("bench-{name}");
    let limits = json!({ "fuel": 100_000_000_000_u64, "timeout_ms": 60_000, "memory_mb": 128 });
    bench.admin.deploy(&script, source, &limits)?;
    // Both sides compute the same, or the comparison means nothing. This run also warms up.
    let expected = native.run()?.as_int().ok().context("the scripts answer integers")?;
    // On a shared machine a core may be half as fast for seconds. The two runs of a pair are neighbours in
    // time, so a pair's ratio is seldom disturbed, and the median of many less still.
    let mut pairs = Pairs::default();
    let mut fuel = 0.0;
    for round in 0..=bench.plan.cpu_runs {
        let started = Instant::now();
        let _ = std::hint::black_box(native.run()?);
        let native_us = micros(started.elapsed());
        let run = bench.admin.test(&script)?;
        ensure!(run.body == expected, "{name} gives {expected} natively, but {} here", run.body);
        fuel = run.execution.fuel;
        if round > 0 {
            pairs.native_us.push(native_us);
            pairs.picloud_us.push(run.execution.duration_us);
            pairs.ratios.push(run.execution.duration_us / native_us);
        }
    }
    Ok(Measured {
        native_us: median(pairs.native_us),
        picloud_us: median(pairs.picloud_us),
        ratio: median(pairs.ratios),
        fuel,
    })
}

#[derive(Default)]
struct Pairs {
    native_us: Vec<f64>,
    picloud_us: Vec<f64>,
    ratios: Vec<f64>,
}
