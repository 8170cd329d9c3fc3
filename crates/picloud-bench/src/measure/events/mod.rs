//! Events: how many are taken and delivered in a second, how soon one that was committed starts, what a
//! backlog of one app does to another, and what triggers cost that nothing happens to.

mod graphile;
mod starts;

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};

use super::{Bench, idle};
use crate::load::{self, Request};
use crate::report::{Bound, Report};
use crate::subject::{Database, Picloud};

const APP: &str = "bench-events";
const HOST: &str = "bench-events.localhost";
const PATH: &str = "/event";
/// The least a handler can be.
const HANDLER: &str = "()";
/// Those who send events at the same time, each with a commit for each event.
const WRITERS: usize = 16;
/// Connections of the bare inserts: as many as PiCloud has for its own. The small private server has room for
/// no more beside those.
const BARE_CONNECTIONS: usize = 8;
const PER_SECOND_GOAL: f64 = 10_000.0;
/// Triggers that wait while nothing happens.
const TRIGGERS: usize = 500;
/// Longer than any backlog of the bench takes.
const DONE_WITHIN: Duration = Duration::from_secs(300);
/// How often it is asked whether a backlog is done: asking costs a process.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let mut picloud = Picloud::start(bench.binary.as_deref())?;
    let admin = picloud.admin()?.new_app(APP)?;
    admin.deploy("event", HANDLER, &json!({}))?;
    admin.async_route(PATH, "event")?;
    let quiet = picloud.admin()?.new_app(starts::APP)?;
    quiet.deploy("event", HANDLER, &json!({}))?;
    quiet.async_route(PATH, "event")?;
    let database = picloud.database()?;
    latency(bench, &picloud, &database, report)?;
    sustained(bench, &picloud, &database, report)?;
    backlog(bench, &database, report)?;
    neighbour(bench, &picloud, &database, report)?;
    for number in 0..TRIGGERS {
        let (kind, config) = waiting_trigger(number);
        admin.trigger(kind, "event", &config)?;
    }
    std::thread::sleep(bench.plan.settle);
    idle::wake_ups(&picloud, &format!("idle with {TRIGGERS} triggers"), bench.plan.idle, report)?;
    picloud.stop()
}

/// One that nothing happens to while the bench runs.
fn waiting_trigger(number: usize) -> (&'static str, Value) {
    match number % 4 {
        // Noon of the shortest days of leap years.
        0 => ("cron", json!({ "schedule": "0 12 29 2 *" })),
        1 => ("pubsub", json!({ "topic": format!("bench.{number}") })),
        2 => ("queue", json!({ "queue": format!("bench-{number}") })),
        _ => ("kv", json!({ "collection": format!("bench-{number}") })),
    }
}

/// From the request that brings an event to the start of its script: the commit is in between, so from
/// the commit it is less.
fn latency(bench: &Bench, picloud: &Picloud, database: &Database, report: &mut Report) -> anyhow::Result<()> {
    report.heading(format_args!("Events at {} a second: from the request to the start", starts::PER_SECOND));
    let times = starts::measure(picloud, database, bench.plan.stream)?;
    let ms = |percent| times.percentile(percent).as_secs_f64() * 1e3;
    let (p50, p95, p99) = (ms(50.0), ms(95.0), ms(99.0));
    report
        .line(format_args!("  {} events: p50 {p50:.2} ms, p95 {p95:.2} ms, p99 {p99:.2} ms", times.count()));
    report.goal("events: request → start, p50", p50, Bound::AtMost(2.0), "ms");
    report.goal("events: request → start, p99", p99, Bound::AtMost(10.0), "ms");
    report.keep("events_latency", json!({ "p50_ms": p50, "p95_ms": p95, "p99_ms": p99 }));
    Ok(())
}

/// What is delivered while events come in as fast as they are taken, beside what the database alone takes.
fn sustained(
    bench: &Bench,
    picloud: &Picloud,
    database: &Database,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.heading(format_args!("Events from {WRITERS} writers, each answered when it is committed"));
    let bare = database.bare_inserts(BARE_CONNECTIONS, bench.plan.stream)?;
    let request = Request::accepted(HOST, PATH, "{}");
    load::run(picloud.address, &request, WRITERS, bench.plan.warm_up)?;
    wait_until_done(database)?;
    let began = Instant::now();
    let accepted = load::run(picloud.address, &request, WRITERS, bench.plan.stream)?;
    let left = database.outbox_rows()?;
    wait_until_done(database)?;
    let delivered = accepted.requests as f64 / began.elapsed().as_secs_f64();
    let p99 = accepted.latency.percentile(99.0).as_secs_f64() * 1e3;
    report.line(format_args!(
        "  accepted {:.0}/s (p99 {p99:.1} ms), delivered {delivered:.0}/s, {left} left at the end; bare inserts {bare:.0}/s",
        accepted.per_second()
    ));
    // The goal is a rate, or what the machine's commits leave of it.
    if delivered >= PER_SECOND_GOAL {
        report.goal("events: delivered in a second", delivered, Bound::AtLeast(PER_SECOND_GOAL), "/s");
    } else {
        report.goal("events: delivered / bare inserts", delivered / bare, Bound::AtLeast(0.5), "×");
    }
    report.keep(
        "events_sustained",
        json!({
            "accepted_per_s": accepted.per_second(), "delivered_per_s": delivered, "left": left,
            "bare_inserts_per_s": bare,
        }),
    );
    Ok(())
}

/// How fast a backlog is worked off, beside graphile-worker.
fn backlog(bench: &Bench, database: &Database, report: &mut Report) -> anyhow::Result<()> {
    let events = bench.plan.backlog;
    report.heading(format_args!("A backlog of {events} events"));
    database.fill_outbox(events)?;
    let began = Instant::now();
    wait_until_done(database)?;
    let rate = f64::from(events) / began.elapsed().as_secs_f64();
    report.line(format_args!(
        "  PiCloud                     {rate:>8.0}/s, each in a clean WebAssembly memory"
    ));
    let Some(graphile) = graphile::measure(database, events)? else {
        report
            .line("  graphile-worker             not measured: it is not installed (make bench installs it)");
        report.keep("events_backlog", json!({ "picloud_per_s": rate }));
        return Ok(());
    };
    report.line(format_args!("  graphile-worker             {:>8.0}/s", graphile.plain));
    report.line(format_args!("  … local queue, batches      {:>8.0}/s", graphile.tuned));
    report.goal("backlog: PiCloud / graphile-worker", rate / graphile.plain, Bound::AtLeast(2.0), "×");
    report.keep(
        "events_backlog",
        json!({ "picloud_per_s": rate, "graphile_per_s": graphile.plain, "graphile_tuned_per_s": graphile.tuned }),
    );
    Ok(())
}

/// What one app's events notice of another's backlog.
fn neighbour(
    bench: &Bench,
    picloud: &Picloud,
    database: &Database,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.heading(format_args!("Events beside another app's backlog of {}", bench.plan.backlog));
    // A backlog lasts some seconds, and must be there until the end.
    let window = bench.plan.turn;
    let p95 = |database| -> anyhow::Result<f64> {
        Ok(starts::measure(picloud, database, window)?.percentile(95.0).as_secs_f64() * 1e3)
    };
    let alone = p95(database)?;
    database.fill_outbox(bench.plan.backlog)?;
    let beside = p95(database)?;
    let left = database.outbox_rows()?;
    wait_until_done(database)?;
    report.line(format_args!(
        "  p95 alone {alone:.2} ms, beside {beside:.2} ms; {left} events still waited at the end"
    ));
    report.goal("backlog of a neighbour: p95 beside / alone", beside / alone, Bound::AtMost(3.0), "×");
    report.goal("backlog of a neighbour: p95 beside", beside - alone, Bound::AtMost(50.0), "ms");
    report.keep("events_neighbour", json!({ "alone_ms": alone, "beside_ms": beside, "left": left }));
    Ok(())
}

fn wait_until_done(database: &Database) -> anyhow::Result<()> {
    let since = Instant::now();
    loop {
        let rows = database.outbox_rows()?;
        if rows == 0 {
            return Ok(());
        }
        ensure!(
            since.elapsed() < DONE_WITHIN,
            "{rows} events are not done after {} s",
            DONE_WITHIN.as_secs()
        );
        std::thread::sleep(LOOK_EVERY);
    }
}
