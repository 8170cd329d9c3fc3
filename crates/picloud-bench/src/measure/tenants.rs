//! Many owners, each of whom has a worker of their own while there is room.

use serde_json::json;

use super::{Bench, HELLO, HELLO_ANSWER};
use crate::baseline::PATH;
use crate::load::{self, Request};
use crate::report::{Bound, Report, median};
use crate::subject::Picloud;

const OWNERS: usize = 60;
/// Owners for whom there is room.
const FEW: usize = 20;
const ROOM: &str = "32";
/// As many as hello is measured at.
const CONNECTIONS: usize = 64;
/// The same ratio with fewer and more requests at a time, shown beside it without a goal: how many of them each worker
/// finds when it wakes is most of the difference.
const OTHER_CONNECTIONS: [usize; 3] = [1, 16, 256];
/// Fewer, since most of these requests begin with a new process.
const CROWD_CONNECTIONS: usize = 2;
/// Shown beside it, without a goal.
const MORE_CONNECTIONS: [usize; 2] = [16, CONNECTIONS];

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    report.heading(format_args!("Owners kept apart, room for {ROOM} workers"));
    let turn = |picloud: &Picloud, requests: &[Request], connections| {
        load::run_in_turn(picloud.address, requests, connections, bench.plan.warm_up)?;
        load::run_in_turn(picloud.address, requests, connections, bench.plan.turn)
    };
    let start = || -> anyhow::Result<(Picloud, Vec<Request>)> {
        let picloud = Picloud::start_with(bench.binary.as_deref(), &[("PICLOUD_WORKERS_MAX", ROOM)])?;
        let requests = owners(&picloud)?;
        Ok((picloud, requests))
    };
    let (mut picloud, mut requests) = start()?;
    let mut ratios = Vec::new();
    // As with walls, each ratio is of a new server.
    for number in 0..bench.plan.starts {
        if number > 0 {
            picloud.stop()?;
            (picloud, requests) = start()?;
        }
        let rate =
            |requests| -> anyhow::Result<f64> { Ok(turn(&picloud, requests, CONNECTIONS)?.per_second()) };
        let (one, few) = (&requests[..1], &requests[..FEW]);
        let rates = [rate(one)?, rate(few)?, rate(few)?, rate(one)?];
        let (one, few) = ((rates[0] + rates[3]) / 2.0, (rates[1] + rates[2]) / 2.0);
        report.line(format_args!("  one owner {one:.0}/s, {FEW} owners in turn {few:.0}/s"));
        ratios.push(few / one);
    }
    let turn = |requests: &[Request], connections| turn(&picloud, requests, connections);
    let mut ratios_beside = Vec::new();
    for connections in OTHER_CONNECTIONS {
        let one = turn(&requests[..1], connections)?.per_second();
        let few = turn(&requests[..FEW], connections)?.per_second();
        let ratio = few / one;
        report.line(format_args!(
            "  at {connections} connections one owner {one:.0}/s, {FEW} owners in turn {few:.0}/s: {ratio:.2}, no goal"
        ));
        ratios_beside.push(ratio);
    }
    let crowd = |connections: usize, note: &str| -> anyhow::Result<f64> {
        let measured = turn(&requests, connections)?;
        let p99_ms = measured.latency.percentile(99.0).as_secs_f64() * 1e3;
        report.line(format_args!(
            "  {OWNERS} owners in turn at {connections} connections {:.0}/s, p99 {p99_ms:.1} ms{note}",
            measured.per_second()
        ));
        Ok(p99_ms)
    };
    let p99_ms = crowd(CROWD_CONNECTIONS, "")?;
    // Beside the goal: as many at once as have to wait for each other's new processes.
    let beside = MORE_CONNECTIONS.into_iter().map(|connections| crowd(connections, ", no goal"));
    let beside = beside.collect::<anyhow::Result<Vec<f64>>>()?;
    picloud.stop()?;
    let middle = median(ratios.iter().copied());
    report.goal(format!("owners: {FEW} in turn / one"), middle, Bound::AtLeast(0.80), "×");
    let crowded = format!("owners: {OWNERS} in turn, p99 at {CROWD_CONNECTIONS} connections");
    report.goal(crowded, p99_ms, Bound::AtMost(50.0), "ms");
    report.keep(
        "owners",
        json!({ "ratios": ratios, "ratios_beside": ratios_beside, "crowd_p99_ms": p99_ms, "crowd_connections": CROWD_CONNECTIONS,
            "crowd_p99_ms_beside": beside }),
    );
    Ok(())
}

/// As many apps, each of its own owner, with a hello that answers.
fn owners(picloud: &Picloud) -> anyhow::Result<Vec<Request>> {
    let admin = picloud.admin()?;
    let mut requests = Vec::with_capacity(OWNERS);
    for number in 0..OWNERS {
        let slug = format!("owner-{number}");
        let app = admin.new_app(&slug)?;
        app.deploy("hello", HELLO, &json!({}))?;
        app.route("/bench/hello/:name", "hello")?;
        requests.push(Request::on(&format!("{slug}.localhost"), PATH, HELLO_ANSWER));
    }
    picloud.database()?.part_owners()?;
    // The next change makes the server read who owns what.
    admin.new_app("last")?;
    Ok(requests)
}
