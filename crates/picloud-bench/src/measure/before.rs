//! Hello of this server beside that of an earlier one, in the same run: whether what was added made requests slower.

use std::path::Path;

use serde_json::json;

use super::{Bench, HELLO, HELLO_SCRIPT};
use crate::report::{Bound, Report, median};
use crate::subject::Picloud;

/// As many as hello is measured at.
const CONNECTIONS: usize = 64;
/// The goal is a few hundredths away from no difference, so a short run has no fewer.
const ROUNDS_MIN: usize = 5;

pub(crate) fn run(bench: &Bench, report: &mut Report, binary: &Path) -> anyhow::Result<()> {
    report.heading(format_args!("Beside {}, hello at {CONNECTIONS} connections", binary.display()));
    let mut earlier = Picloud::start(Some(binary))?;
    let admin = earlier.admin()?;
    admin.deploy(HELLO_SCRIPT, HELLO, &json!({}))?;
    admin.route("/bench/hello/:name", HELLO_SCRIPT)?;
    let mut rounds = Vec::new();
    for index in 0..bench.plan.rounds.max(ROUNDS_MIN) {
        let turn = |picloud: &Picloud| -> anyhow::Result<f64> {
            Ok(bench.turn(picloud.address, &bench.hello, CONNECTIONS, || ())?.0.per_second())
        };
        // Who comes second finds another machine: each is it in turn.
        let (before, now) = if index % 2 == 0 {
            let before = turn(&earlier)?;
            (before, turn(&bench.picloud)?)
        } else {
            let now = turn(&bench.picloud)?;
            (turn(&earlier)?, now)
        };
        report.line(format_args!("  before {before:.0}/s, now {now:.0}/s"));
        rounds.push((before, now));
    }
    earlier.stop()?;
    let ratio = median(rounds.iter().map(|(before, now)| now / before));
    let rate = |pick: fn(&(f64, f64)) -> f64| median(rounds.iter().map(pick));
    let (before, now) = (rate(|round| round.0), rate(|round| round.1));
    report.line(format_args!("  medians: before {before:.0}/s, now {now:.0}/s, ratio {ratio:.2}"));
    report.goal("hello beside the earlier server: now / before", ratio, Bound::AtLeast(0.95), "×");
    let rounds: Vec<_> = rounds
        .iter()
        .map(|(before, now)| json!({ "before_per_second": before, "now_per_second": now }))
        .collect();
    let binary = binary.display().to_string();
    report.keep("before", json!({ "binary": binary, "rounds": rounds, "ratio": ratio }));
    Ok(())
}
