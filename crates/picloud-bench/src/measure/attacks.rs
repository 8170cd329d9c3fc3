//! How soon attacks are over of which tests only assert that they are: tests run unoptimised, several at once. The numbers are
//! those of docs/attacks.md.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;

use super::Bench;
use crate::load;
use crate::report::{Bound, Report};

/// Each attack is made so often; what counts is the middle.
const TIMES: usize = 11;
const TIMEOUT: u16 = 504;
const DEADLINE: Duration = Duration::from_millis(500);
/// More than can be burnt until the deadline, so that it is the deadline that ends it.
const FUEL: u64 = 300_000_000_000;
const NESTED: usize = 100_000;
const PATTERNS: &str = r#"
    let text = "";
    text.pad(30, 'a');
    text += "!";
    let found = 0;
    for pattern in ["(a+)+$", "(.*)*x", "a{1000}{1000}"] {
        try { found += if regex::is_match(pattern, text) { 1 } else { 0 } } catch (error) { }
    }
    found
"#;

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    report.heading("Attacks, and how soon they are over");
    let end = endless_loop(bench)?;
    report.goal("attack 1, an endless loop: end after its deadline", end, Bound::AtMost(10.0), "ms");
    let nested = nested_source(bench)?;
    report.goal("attack 3, source nested 100,000 deep: refused", nested, Bound::AtMost(50.0), "ms");
    let patterns = regex_bombs(bench)?;
    report.goal("attack 8, three patterns that explode elsewhere", patterns, Bound::AtMost(100.0), "ms");
    report.keep("attacks_ms", json!({ "1": end, "3": nested, "8": patterns }));
    Ok(())
}

fn endless_loop(bench: &Bench) -> anyhow::Result<f64> {
    let limits = json!({ "timeout_ms": DEADLINE.as_millis(), "fuel": FUEL });
    bench.admin.deploy("bench-endless", "loop {}", &limits)?;
    bench.admin.route("/bench/endless", "bench-endless")?;
    middle(|| {
        let answer = load::ask(bench.picloud.address, "localhost", "/bench/endless")?;
        ensure!(answer.status == TIMEOUT, "an endless loop was answered {}", answer.status);
        Ok(answer.took.saturating_sub(DEADLINE))
    })
}

/// The slowest of several ways to nest.
fn nested_source(bench: &Bench) -> anyhow::Result<f64> {
    let sources = [
        "(".repeat(NESTED),
        "[".repeat(NESTED),
        format!("{}true", "!".repeat(NESTED)),
        format!("a{}", ".a".repeat(NESTED)),
    ];
    let mut slowest: f64 = 0.0;
    for source in &sources {
        slowest = slowest.max(middle(|| {
            let begun = Instant::now();
            let refused = bench.admin.deploy("bench-nested", source, &json!({}));
            ensure!(refused.is_err(), "source that is nested {NESTED} deep was taken");
            Ok(begun.elapsed())
        })?);
    }
    Ok(slowest)
}

fn regex_bombs(bench: &Bench) -> anyhow::Result<f64> {
    bench.admin.deploy("bench-patterns", PATTERNS, &json!({}))?;
    bench.admin.route("/bench/patterns", "bench-patterns")?;
    middle(|| {
        let answer = load::ask(bench.picloud.address, "localhost", "/bench/patterns")?;
        ensure!(answer.status == 200, "patterns were answered {}", answer.status);
        Ok(answer.took)
    })
}

/// In milliseconds.
fn middle(mut attack: impl FnMut() -> anyhow::Result<Duration>) -> anyhow::Result<f64> {
    let mut took = (0..TIMES).map(|_| attack()).collect::<anyhow::Result<Vec<_>>>()?;
    took.sort_unstable();
    Ok(took[TIMES / 2].as_secs_f64() * 1e3)
}
