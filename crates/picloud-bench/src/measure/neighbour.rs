//! An app that burns all the CPU it can get, and what another one notices.

use serde_json::json;

use super::{Bench, HELLO};
use crate::load::{self, Background, Request};
use crate::report::{Bound, Report};

/// Half the slots of two workers: what one app may have at the same time.
const NOISE: usize = 16;
const CONNECTIONS: usize = 4;

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    report.heading("A noisy neighbour");
    let noisy = bench.admin.new_app("noisy")?;
    noisy.deploy("spin", "let n = 0; loop { n += 1; }", &json!({ "fuel": 2_000_000_000_u64 }))?;
    noisy.route("/spin", "spin")?;
    let quiet = bench.admin.new_app("quiet")?;
    quiet.deploy("hello", HELLO, &json!({}))?;
    quiet.route("/bench/hello/:name", "hello")?;
    let hello = Request::on("quiet.localhost", crate::baseline::PATH, super::HELLO_ANSWER);

    let p99 = || -> anyhow::Result<f64> {
        load::run(bench.picloud.address, &hello, CONNECTIONS, bench.plan.warm_up)?;
        let measured = load::run(bench.picloud.address, &hello, CONNECTIONS, bench.plan.turn)?;
        Ok(measured.latency.percentile(99.0).as_secs_f64() * 1e6)
    };
    let alone = p99()?;
    let noise = Background::start(bench.picloud.address, "noisy.localhost", "/spin", NOISE);
    let beside = p99()?;
    drop(noise);
    report.line(format_args!("  p99 alone {alone:.0} µs, beside {NOISE} endless loops {beside:.0} µs"));
    report.goal("noisy neighbour: p99 beside / alone", beside / alone, Bound::AtMost(2.0), "×");
    report.keep("neighbour", json!({ "alone_us": alone, "beside_us": beside }));
    Ok(())
}
