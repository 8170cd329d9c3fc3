//! Where a request's time goes: CPU time and context switches of everybody who has a part in it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::hello::micros;
use super::{Bench, HELLO_SCRIPT};
use crate::load::Request;
use crate::process::{self, Cpu};
use crate::report::{Report, median};

const SMALLEST_SCRIPT: &str = "bench-smallest";
/// Records are written a moment later; the backlog of a full queue takes a second.
const RECORDED_WITHIN: Duration = Duration::from_millis(1_500);

/// What is asked of whom.
struct Case<'a> {
    name: &'static str,
    address: SocketAddr,
    request: &'a Request,
    connections: usize,
    server: u32,
    /// The script whose executions are looked at.
    script: Option<&'static str>,
}

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    bench.admin.deploy(SMALLEST_SCRIPT, "0", &json!({}))?;
    bench.admin.route("/bench/smallest", SMALLEST_SCRIPT)?;
    let smallest = Request::get("/bench/smallest", "0");
    let health = Request::get("/healthz", "ok\n");
    let (axum, native) = (&bench.axum, &bench.native);
    let picloud = |name, request, connections, script| {
        let (address, server) = (bench.picloud.address, bench.picloud.pid());
        Case { name, address, request, connections, server, script }
    };
    let baseline = |name, of: &crate::baseline::Baseline, connections| {
        let (address, server) = (of.address, of.pid());
        Case { name, address, request: &bench.hello, connections, server, script: None }
    };
    let cases = [
        baseline("axum, 64", axum, 64),
        baseline("native, 64", native, 64),
        picloud("/healthz, 64", &health, 64, None),
        picloud("smallest, 64", &smallest, 64, Some(SMALLEST_SCRIPT)),
        picloud("hello, 64", &bench.hello, 64, Some(HELLO_SCRIPT)),
        baseline("axum, 1", axum, 1),
        baseline("native, 1", native, 1),
        picloud("/healthz, 1", &health, 1, None),
        picloud("hello, 1", &bench.hello, 1, Some(HELLO_SCRIPT)),
    ];
    report.heading(
        "Where a request's time goes: CPU µs per request, user+system; context switches per request",
    );
    report.line(
        "  case          req/s  p50 µs      client      parent     workers  PostgreSQL  switches p/w   \
         queued  executing µs   fuel",
    );
    let mut kept = Vec::new();
    for case in &cases {
        kept.push(measure(bench, report, case)?);
    }
    report.keep("breakdown", kept.into());
    Ok(())
}

/// A moment's counters: CPU time of client, server, workers and PostgreSQL; switches of the server's
/// threads and of the workers'.
struct Look {
    cpu: [Cpu; 4],
    switches: [BTreeMap<u32, u64>; 2],
}

/// Workers and PostgreSQL are looked for each time: a worker is replaced after so many executions, and
/// its CPU time is then found with its parent.
fn look(bench: &Bench, server: u32) -> Look {
    let client = Cpu::of(&[std::process::id()]);
    let switches = |pid: u32| process::switches(pid).unwrap_or_default();
    if server != bench.picloud.pid() {
        let cpu = [client, Cpu::of(&[server]), Cpu::default(), Cpu::default()];
        return Look { cpu, switches: [switches(server), BTreeMap::new()] };
    }
    let workers = bench.picloud.workers();
    let of_workers = Cpu::of(&workers).and(Cpu::of_ended_children(server));
    Look {
        cpu: [client, Cpu::of(&[server]), of_workers, Cpu::of(&bench.picloud.postgres())],
        switches: [switches(server), workers.into_iter().flat_map(switches).collect()],
    }
}

fn measure(bench: &Bench, report: &Report, case: &Case<'_>) -> anyhow::Result<Value> {
    let look = || look(bench, case.server);
    let (measured, before) = bench.turn(case.address, case.request, case.connections, look)?;
    let after = look();

    let requests = measured.requests as f64;
    let costs: Vec<[f64; 2]> = before
        .cpu
        .iter()
        .zip(after.cpu)
        .map(|(before, after)| after.since(*before))
        .map(|cpu| [micros(cpu.user) / requests, micros(cpu.system) / requests])
        .collect();
    let switches = [0, 1]
        .map(|at| process::switches_between(&before.switches[at], &after.switches[at]) as f64 / requests);
    let p50 = micros(measured.latency.percentile(50.0));
    let stages = stages(bench, case)?;
    let cells: Vec<String> =
        costs.iter().map(|[user, system]| format!("{:>11}", format!("{user:.1}+{system:.1}"))).collect();
    let shown = stages.map_or_else(String::new, |[queued, executing, fuel]| {
        format!(" {queued:>8.0} {executing:>10.0} {fuel:>10.0}")
    });
    report.line(format_args!(
        "  {:<13} {:>6.0} {p50:>7.1} {} {:>7.2}/{:.2} {shown}",
        case.name,
        measured.per_second(),
        cells.join(" "),
        switches[0],
        switches[1],
    ));
    Ok(json!({
        "case": case.name, "requests_per_second": measured.per_second(), "p50_us": p50,
        "cpu_us_client_parent_workers_postgres": costs, "switches_parent_workers": switches,
        "queued_us_executing_us_fuel": stages,
    }))
}

/// Median time in the queue, median time executing, and fuel, of the newest records.
fn stages(bench: &Bench, case: &Case<'_>) -> anyhow::Result<Option<[f64; 3]>> {
    let Some(script) = case.script else { return Ok(None) };
    std::thread::sleep(RECORDED_WITHIN);
    let executions = bench.admin.executions(script)?;
    let middle = |pick: fn(&crate::subject::Execution) -> f64| median(executions.iter().map(pick));
    Ok(Some([middle(|e| e.queued_us), middle(|e| e.duration_us), middle(|e| e.fuel)]))
}
