//! A server that is full: how soon it says so.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;

use super::Bench;
use crate::load::{self, Histogram};
use crate::report::{Bound, Report};
use crate::subject::Picloud;

/// More than an app may have running and waiting together.
const CROWD: usize = 560;
/// Those who come to a full house. Queued requests are given up after 5 s, so this must be over by then.
const LATE: usize = 100;
const OVERLOADED: u16 = 503;
const SETTLE: Duration = Duration::from_millis(500);
const FULL_WITHIN: Duration = Duration::from_secs(3);

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    report.heading("A full house");
    // All of the crowd comes from one address, which only a trusted proxy may have so many from.
    let settings = [("PICLOUD_WORKERS", "2"), ("PICLOUD_TRUSTED_PROXIES", "127.0.0.1")];
    let mut picloud = Picloud::start_with(bench.binary.as_deref(), &settings)?;
    let crowd = picloud.admin()?.new_app("crowd")?;
    crowd.deploy("spin", "let n = 0; loop { n += 1; }", &json!({ "timeout_ms": 10_000 }))?;
    crowd.route("/spin", "spin")?;
    let ask = || load::ask(picloud.address, "crowd.localhost", "/spin");
    let send = |_| load::send(picloud.address, "crowd.localhost", "/spin");
    let waiting = (0..CROWD).map(send).collect::<anyhow::Result<Vec<_>>>()?;
    // Until the last of them has been taken in.
    std::thread::sleep(SETTLE);
    let since = Instant::now();
    let mut latency = Histogram::default();
    while latency.count() < LATE as u64 {
        let answer = ask()?;
        ensure!(answer.status == OVERLOADED, "a full house answered {}", answer.status);
        ensure!(answer.has_retry_after, "a refusal without Retry-After");
        ensure!(since.elapsed() < FULL_WITHIN, "it takes too long to refuse {LATE} requests");
        latency.add(answer.took);
    }
    drop(waiting);
    picloud.stop()?;
    let ms = |percent| latency.percentile(percent).as_secs_f64() * 1e3;
    let (p50, p99) = (ms(50.0), ms(99.0));
    report.line(format_args!("  503 with Retry-After, {LATE} times: p50 {p50:.2} ms, p99 {p99:.2} ms"));
    report.goal("full: 503 after, p99", p99, Bound::AtMost(5.0), "ms");
    report.keep("full", json!({ "p50_ms": p50, "p99_ms": p99 }));
    Ok(())
}
