//! An app that burns all the CPU it can get, and what another one notices: one of the same owner, whose
//! executions run in the same workers, and one of another owner, whose run in workers of their own.

use serde_json::json;

use super::{Bench, HELLO};
use crate::load::{self, Background, Request};
use crate::report::{Bound, Report, median};
use crate::subject::{Admin, Picloud};

const WORKERS: (&str, &str) = ("PICLOUD_WORKERS", "2");
/// Where more wait than there are slots of all workers that there may be.
const FOUR_AT_MOST: (&str, &str) = ("PICLOUD_WORKERS_MAX", "4");
/// Half the slots of two workers: what one app may have at the same time.
const NOISE: usize = 16;
/// Of these wait half as many again as four workers have slots.
const CROWD: usize = NOISE + 96;
const CONNECTIONS: usize = 4;
/// Each loop ends of itself after a fifth of a second of CPU, so that there are always new ones too.
const FUEL: u64 = 2_000_000_000;

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    report.heading(format_args!("A noisy neighbour: {NOISE} endless loops beside hello"));
    let (mut picloud, admin) = start(bench, &[WORKERS])?;
    judge(bench, &picloud, "same owner", report)?;
    picloud.database()?.part_owners()?;
    // The next change makes the server read who owns what.
    admin.new_app("last")?;
    judge(bench, &picloud, "another owner", report)?;
    picloud.stop()?;
    show_crowd(bench, report)
}

/// A server with both apps, of one owner.
fn start(bench: &Bench, settings: &[(&str, &str)]) -> anyhow::Result<(Picloud, Admin)> {
    let picloud = Picloud::start_with(bench.binary.as_deref(), settings)?;
    let admin = picloud.admin()?;
    let noisy = admin.new_app("noisy")?;
    noisy.deploy("spin", "let n = 0; loop { n += 1; }", &json!({ "fuel": FUEL }))?;
    noisy.route("/spin", "spin")?;
    let quiet = admin.new_app("quiet")?;
    quiet.deploy("hello", HELLO, &json!({}))?;
    quiet.route("/bench/hello/:name", "hello")?;
    Ok((picloud, admin))
}

/// The goal is on the median of the rounds' ratios.
fn judge(bench: &Bench, picloud: &Picloud, whose: &str, report: &mut Report) -> anyhow::Result<()> {
    let ratios = rounds(bench, picloud, whose, NOISE, report)?;
    let ratio = median(ratios.iter().copied());
    report.goal(format!("noisy neighbour, {whose}: p99 beside / alone"), ratio, Bound::AtMost(2.0), "×");
    report.keep(&format!("neighbour, {whose}"), json!({ "ratios": ratios }));
    Ok(())
}

/// With more requests that wait than there are slots, so that the queue decides who is next. Shown without a goal: the
/// client's threads and what it is refused after a while take their part of the same cores.
fn show_crowd(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let (mut picloud, _admin) = start(bench, &[WORKERS, FOUR_AT_MOST])?;
    let whose = format!("same owner, {} waiting", CROWD - NOISE);
    let ratios = rounds(bench, &picloud, &whose, CROWD, report)?;
    picloud.stop()?;
    let ratio = median(ratios.iter().copied());
    report.line(format_args!("  {whose}: p99 beside / alone {ratio:.2}, no goal"));
    report.keep("neighbour, waiting", json!({ "connections": CROWD, "ratios": ratios }));
    Ok(())
}

/// Hello's p99 beside so many connections that ask for loops, by its p99 alone, in each round.
fn rounds(
    bench: &Bench,
    picloud: &Picloud,
    whose: &str,
    noise: usize,
    report: &Report,
) -> anyhow::Result<Vec<f64>> {
    let hello = Request::on("quiet.localhost", crate::baseline::PATH, super::HELLO_ANSWER);
    let turn = || -> anyhow::Result<(f64, f64)> {
        load::run(picloud.address, &hello, CONNECTIONS, bench.plan.warm_up)?;
        let measured = load::run(picloud.address, &hello, CONNECTIONS, bench.plan.turn)?;
        Ok((measured.latency.percentile(99.0).as_secs_f64() * 1e6, measured.per_second()))
    };
    let mut ratios = Vec::new();
    for _ in 0..bench.plan.rounds {
        let (alone, alone_rate) = turn()?;
        let background = Background::start(picloud.address, "noisy.localhost", "/spin", noise);
        let (beside, beside_rate) = turn()?;
        let loops = background.stop();
        report.line(format_args!(
            "  {whose}: p99 alone {alone:.0} µs at {alone_rate:.0}/s, beside {beside:.0} µs at {beside_rate:.0}/s; \
             {} loops ended or were refused",
            loops.failed
        ));
        ratios.push(beside / alone);
    }
    Ok(ratios)
}
