//! What the walls around a worker cost: the same server with and without them.

use serde_json::json;

use super::{Bench, HELLO, HELLO_SCRIPT};
use crate::load;
use crate::report::{Bound, Report, median};
use crate::subject::Picloud;

const CONNECTIONS: usize = 64;

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    report.heading(format_args!("Walls on and off, hello at {CONNECTIONS} connections"));
    let mut off = Picloud::start_with(bench.binary.as_deref(), &[("PICLOUD_ISOLATION", "off")])?;
    let admin = off.admin()?;
    admin.deploy(HELLO_SCRIPT, HELLO, &json!({}))?;
    admin.route("/bench/hello/:name", HELLO_SCRIPT)?;
    let mut ratios = Vec::new();
    for _ in 0..bench.plan.rounds {
        let turn = |address| -> anyhow::Result<f64> {
            load::run(address, &bench.hello, CONNECTIONS, bench.plan.warm_up)?;
            Ok(load::run(address, &bench.hello, CONNECTIONS, bench.plan.turn)?.per_second())
        };
        let (with, without) = (turn(bench.picloud.address)?, turn(off.address)?);
        report.line(format_args!("  with {with:.0}/s, without {without:.0}/s"));
        ratios.push(with / without);
    }
    off.stop()?;
    report.goal("walls: hello with / without", median(ratios.iter().copied()), Bound::AtLeast(0.97), "×");
    report.keep("jail", json!({ "ratios": ratios }));
    Ok(())
}
