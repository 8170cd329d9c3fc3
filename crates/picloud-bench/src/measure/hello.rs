//! The hello script through the whole product, beside a bare axum handler and native Rhai.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::Bench;
use crate::load::Measured;
use crate::report::{Bound, Report, median};

const MANY: usize = 64;

/// One round: everybody had a turn.
struct Round {
    axum: Measured,
    native: Measured,
    picloud: Measured,
}

/// Throughput at 64 connections.
pub(crate) fn many(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    report.heading(format_args!("Hello, {MANY} keep-alive connections"));
    let rounds = rounds(bench, report, MANY)?;
    let to_axum = median(rounds.iter().map(|r| r.picloud.per_second() / r.axum.per_second()));
    let to_native = median(rounds.iter().map(|r| r.picloud.per_second() / r.native.per_second()));
    summary(report, &rounds);
    report.line(format_args!("  PiCloud is {to_axum:.2}× of bare axum and {to_native:.2}× of native Rhai"));
    report.goal(format!("hello, {MANY} connections: rate / bare axum"), to_axum, Bound::AtLeast(0.40), "×");
    report.goal(format!("hello, {MANY} connections: rate / native"), to_native, Bound::AtLeast(0.90), "×");
    report.keep("hello_64", to_json(&rounds));
    Ok(())
}

/// Latency at one connection.
pub(crate) fn one(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    report.heading("Hello, 1 connection");
    let rounds = rounds(bench, report, 1)?;
    summary(report, &rounds);
    let over_axum = median(rounds.iter().map(|r| p50(&r.picloud) - p50(&r.axum)));
    let over_native = median(rounds.iter().map(|r| p50(&r.picloud) - p50(&r.native)));
    report.line(format_args!(
        "  PiCloud's p50 is {over_axum:.0} µs over bare axum's and {over_native:.0} µs over native Rhai's"
    ));
    report.goal("hello, 1 connection: p50 over bare axum", over_axum, Bound::AtMost(100.0), "µs");
    report.keep("hello_1", to_json(&rounds));
    Ok(())
}

/// Turns alternate, so that what else the machine does meets everybody alike.
fn rounds(bench: &Bench, report: &Report, connections: usize) -> anyhow::Result<Vec<Round>> {
    report.line("  round        bare axum        native Rhai            PiCloud   requests/s (p50 µs)");
    let mut rounds = Vec::with_capacity(bench.plan.rounds);
    for index in 1..=bench.plan.rounds {
        let round = Round {
            axum: turn(bench, bench.axum.address, connections)?,
            native: turn(bench, bench.native.address, connections)?,
            picloud: turn(bench, bench.picloud.address, connections)?,
        };
        report.line(format_args!(
            "  {index:<5} {} {} {}",
            cell(&round.axum),
            cell(&round.native),
            cell(&round.picloud)
        ));
        rounds.push(round);
    }
    Ok(rounds)
}

fn turn(bench: &Bench, address: SocketAddr, connections: usize) -> anyhow::Result<Measured> {
    Ok(bench.turn(address, &bench.hello, connections, || ())?.0)
}

fn cell(measured: &Measured) -> String {
    format!("{:>9.0} ({:>6.1})", measured.per_second(), p50(measured))
}

fn summary(report: &Report, rounds: &[Round]) {
    report.line("  median      req/s    p50 µs    p99 µs  p99.9 µs");
    for (name, pick) in contestants() {
        let rate = median(rounds.iter().map(|round| pick(round).per_second()));
        let at = |percent: f64| median(rounds.iter().map(|r| micros(pick(r).latency.percentile(percent))));
        report.line(format_args!(
            "  {name:<9} {rate:>8.0} {:>9.1} {:>9.1} {:>9.1}",
            at(50.0),
            at(99.0),
            at(99.9)
        ));
    }
}

type Pick = fn(&Round) -> &Measured;

fn contestants() -> [(&'static str, Pick); 3] {
    [("axum", |r| &r.axum), ("native", |r| &r.native), ("PiCloud", |r| &r.picloud)]
}

fn to_json(rounds: &[Round]) -> Value {
    let of = |pick: Pick| -> Vec<Value> {
        let one = |measured: &Measured| {
            let at = |percent| micros(measured.latency.percentile(percent));
            json!({
                "requests_per_second": measured.per_second(),
                "p50_us": at(50.0), "p99_us": at(99.0), "p99_9_us": at(99.9),
            })
        };
        rounds.iter().map(|round| one(pick(round))).collect()
    };
    contestants().into_iter().map(|(name, pick)| (name.to_lowercase(), Value::from(of(pick)))).collect()
}

fn p50(measured: &Measured) -> f64 {
    micros(measured.latency.percentile(50.0))
}

pub(super) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
