//! What the walls around a worker cost: the same server with and without them, and how soon a worker stands behind
//! them.

use anyhow::Context;
use serde_json::{Value, json};

use super::{Bench, HELLO, HELLO_SCRIPT};
use crate::load;
use crate::report::{Bound, Report, median};
use crate::subject::{self, Picloud};

const CONNECTIONS: usize = 64;
/// Workers that are started one after the other.
const STARTS: usize = 20;

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    report.heading(format_args!("Walls on and off, hello at {CONNECTIONS} connections"));
    // A server keeps for its life what it was given at its start, memory in lucky or unlucky places for one: two of the same
    // kind differ by five hundredths. So each ratio is of two new ones.
    let mut ratios = Vec::new();
    for number in 0..bench.plan.starts {
        let (mut with, mut without) = (server(bench, "pinned")?, server(bench, "off")?);
        let turn = |server: &Picloud| -> anyhow::Result<f64> {
            load::run(server.address, &bench.hello, CONNECTIONS, bench.plan.warm_up)?;
            Ok(load::run(server.address, &bench.hello, CONNECTIONS, bench.plan.turn)?.per_second())
        };
        // So that neither is always the first of the two.
        let (first, second) = if number % 2 == 0 { (&with, &without) } else { (&without, &with) };
        let turns = [turn(first)?, turn(second)?, turn(second)?, turn(first)?];
        let (first, second) = ((turns[0] + turns[3]) / 2.0, (turns[1] + turns[2]) / 2.0);
        let (with_rate, without_rate) = if number % 2 == 0 { (first, second) } else { (second, first) };
        report.line(format_args!("  with {with_rate:.0}/s, without {without_rate:.0}/s"));
        ratios.push(with_rate / without_rate);
        with.stop()?;
        without.stop()?;
    }
    report.goal("walls: hello with / without", median(ratios.iter().copied()), Bound::AtLeast(0.97), "×");
    let starts = starts(bench)?;
    let middle = median(starts.iter().copied());
    let slowest = starts.iter().copied().fold(0.0, f64::max);
    report.line(format_args!(
        "  a worker is ready after {middle:.1} ms, at most {slowest:.1} ms ({STARTS} starts)"
    ));
    report.goal("walls: from spawn to ready", middle, Bound::AtMost(25.0), "ms");
    report.keep("jail", json!({ "ratios": ratios, "starts_ms": starts }));
    Ok(())
}

/// A server that says hello and has nothing else to do.
fn server(bench: &Bench, isolation: &str) -> anyhow::Result<Picloud> {
    let server = Picloud::start_with(bench.binary.as_deref(), &[("PICLOUD_ISOLATION", isolation)])?;
    let admin = server.admin()?;
    admin.deploy(HELLO_SCRIPT, HELLO, &json!({}))?;
    admin.route("/bench/hello/:name", HELLO_SCRIPT)?;
    Ok(server)
}

/// Milliseconds from the decision to start a worker to its being ready behind all walls, as the doctor finds them. It
/// starts one as the server does, with the guest's code on huge pages.
fn starts(bench: &Bench) -> anyhow::Result<Vec<f64>> {
    let binary = subject::program(bench.binary.as_deref())?;
    let data = tempfile::tempdir()?;
    let start = |_| -> anyhow::Result<f64> {
        let mut doctor = subject::without_settings(&binary);
        let said = doctor.args(["doctor", "--json"]).env("PICLOUD_DATA_DIR", data.path()).output()?;
        let report: Value = serde_json::from_slice(&said.stdout).context("the doctor says something else")?;
        let worker =
            report["checks"].as_array().and_then(|all| all.iter().find(|check| check["name"] == "worker"));
        let micros = worker.and_then(|check| check["time_us"].as_f64());
        Ok(micros.context("the doctor starts no worker")? / 1e3)
    };
    (0..STARTS).map(start).collect()
}
