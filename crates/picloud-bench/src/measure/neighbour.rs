//! An app that burns all the CPU it can get, and what another one notices: one of the same owner, whose
//! executions run in the same workers, and one of another owner, whose run in workers of their own.

use serde_json::json;

use super::{Bench, HELLO};
use crate::load::{self, Background, Request};
use crate::report::{Bound, Report, median};
use crate::subject::Picloud;

/// Half the slots of two workers: what one app may have at the same time.
const NOISE: usize = 16;
const CONNECTIONS: usize = 4;
/// Each loop ends of itself after a fifth of a second of CPU, so that there are always new ones too.
const FUEL: u64 = 2_000_000_000;

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    report.heading(format_args!("A noisy neighbour: {NOISE} endless loops beside hello"));
    let mut picloud = Picloud::start_with(bench.binary.as_deref(), &[("PICLOUD_WORKERS", "2")])?;
    let admin = picloud.admin()?;
    let noisy = admin.new_app("noisy")?;
    noisy.deploy("spin", "let n = 0; loop { n += 1; }", &json!({ "fuel": FUEL }))?;
    noisy.route("/spin", "spin")?;
    let quiet = admin.new_app("quiet")?;
    quiet.deploy("hello", HELLO, &json!({}))?;
    quiet.route("/bench/hello/:name", "hello")?;
    judge(bench, &picloud, "same owner", report)?;
    picloud.database()?.part_owners()?;
    // The next change makes the server read who owns what.
    admin.new_app("last")?;
    judge(bench, &picloud, "another owner", report)?;
    picloud.stop()
}

/// The goal is on the median of the rounds' ratios.
fn judge(bench: &Bench, picloud: &Picloud, whose: &str, report: &mut Report) -> anyhow::Result<()> {
    let hello = Request::on("quiet.localhost", crate::baseline::PATH, super::HELLO_ANSWER);
    let turn = || -> anyhow::Result<(f64, f64)> {
        load::run(picloud.address, &hello, CONNECTIONS, bench.plan.warm_up)?;
        let measured = load::run(picloud.address, &hello, CONNECTIONS, bench.plan.turn)?;
        Ok((measured.latency.percentile(99.0).as_secs_f64() * 1e6, measured.per_second()))
    };
    let mut ratios = Vec::new();
    for _ in 0..bench.plan.rounds {
        let (alone, alone_rate) = turn()?;
        let noise = Background::start(picloud.address, "noisy.localhost", "/spin", NOISE);
        let (beside, beside_rate) = turn()?;
        let loops = noise.stop();
        report.line(format_args!(
            "  {whose}: p99 alone {alone:.0} µs at {alone_rate:.0}/s, beside {beside:.0} µs at {beside_rate:.0}/s; \
             {} loops ended",
            loops.failed
        ));
        ratios.push(beside / alone);
    }
    let ratio = median(ratios.iter().copied());
    report.goal(format!("noisy neighbour, {whose}: p99 beside / alone"), ratio, Bound::AtMost(2.0), "×");
    report.keep(&format!("neighbour, {whose}"), json!({ "ratios": ratios }));
    Ok(())
}
