//! What PiCloud costs when nothing is asked of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::Bench;
use crate::process::{self, Memory};
use crate::report::{Bound, Report};
use crate::subject::{Activity, Picloud};

const WORKER_MIB_MAX: f64 = 30.0;
const PARENT_MIB_MAX: f64 = 60.0;

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    std::thread::sleep(bench.plan.settle);
    memory(bench, report, "after the start")?;
    wake_ups(&bench.picloud, "idle", bench.plan.idle, report)
}

/// Memory once more, when everything else was measured.
pub(crate) fn after_work(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    std::thread::sleep(bench.plan.settle);
    memory(bench, report, "after the work")?;
    let rows = bench.picloud.database()?.activity(0.0)?.rows_inserted;
    report.line(format_args!(
        "  rows written to the database: {rows:.0}; requests that PiCloud answered under load: {}",
        bench.answered.get()
    ));
    Ok(())
}

fn memory(bench: &Bench, report: &mut Report, when: &str) -> anyhow::Result<()> {
    report.heading(format_args!("Memory when idle, {when}: resident MiB (proportional)"));
    let parent = process::memory(bench.picloud.pid())?;
    report.line(format_args!("  parent      {}", text(parent)));
    let pids = bench.picloud.workers();
    let workers: Vec<Memory> = pids.iter().map(|pid| process::memory(*pid)).collect::<anyhow::Result<_>>()?;
    for worker in &workers {
        report.line(format_args!("  worker      {}", text(*worker)));
    }
    let largest = workers.iter().map(|worker| mib(worker.resident_kib)).fold(f64::NAN, f64::max);
    let postgres: Vec<Memory> =
        bench.picloud.postgres().into_iter().filter_map(|pid| process::memory(pid).ok()).collect();
    let postgres_mib = mib(postgres.iter().filter_map(|memory| memory.proportional_kib).sum());
    report.line(format_args!("  PostgreSQL  {postgres_mib:.1} proportional, {} processes", postgres.len()));
    report.goal(format!("memory {when}: largest worker"), largest, Bound::AtMost(WORKER_MIB_MAX), "MiB");
    let resident = mib(parent.resident_kib);
    report.goal(format!("memory {when}: parent"), resident, Bound::AtMost(PARENT_MIB_MAX), "MiB");
    let key = format!("memory_{}", when.replace(' ', "_"));
    let workers_mib: Vec<f64> = workers.iter().map(|worker| mib(worker.resident_kib)).collect();
    report.keep(
        &key,
        json!({ "parent_mib": resident, "workers_mib": workers_mib, "postgres_pss_mib": postgres_mib }),
    );
    Ok(())
}

fn text(memory: Memory) -> String {
    let proportional =
        memory.proportional_kib.map_or_else(|| "?".to_owned(), |kib| format!("{:.1}", mib(kib)));
    format!("{:.1} ({proportional})", mib(memory.resident_kib))
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1_024.0
}

/// Switches of every thread of every process of PiCloud, PostgreSQL's own left out.
fn look(pids: &[u32]) -> anyhow::Result<Vec<BTreeMap<u32, u64>>> {
    pids.iter().map(|pid| process::switches(*pid)).collect()
}

/// What happens while nothing is to be done; `name` says in which state it is.
pub(super) fn wake_ups(
    picloud: &Picloud,
    name: &str,
    window: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    let seconds = window.as_secs_f64();
    report.heading(format_args!("{name}, for {seconds:.0} s"));
    let database = picloud.database()?;
    let mut pids = vec![picloud.pid()];
    pids.extend(picloud.workers());
    let sql_before = database.activity(0.0)?;
    let before = look(&pids)?;
    std::thread::sleep(window);
    let after = look(&pids)?;
    let sql_after = database.activity(sql_before.now)?;

    let counts: Vec<u64> =
        before.iter().zip(&after).map(|(before, after)| process::switches_between(before, after)).collect();
    let per_second = counts.iter().sum::<u64>() as f64 / seconds;
    report.line(format_args!("  parent {} context switches, workers {:?}", counts[0], &counts[1..]));
    report.goal(
        format!("{name}: context switches per second, all together"),
        per_second,
        Bound::AtMost(1.0),
        "/s",
    );
    report.keep(name, json!({ "seconds": seconds, "switches": counts }));
    statements(report, name, sql_before, sql_after);
    Ok(())
}

/// A session that ran something shows when; one that is new ran something to log in. Transactions
/// are for reading only, since PostgreSQL's own housekeeping makes some.
fn statements(report: &mut Report, name: &str, before: Activity, after: Activity) {
    let new_sessions = after.sessions - before.sessions;
    let transactions = after.transactions - before.transactions;
    report.line(format_args!(
        "  PostgreSQL: {} sessions ran a statement, {new_sessions} were opened, {transactions} transactions in all",
        after.busy_sessions
    ));
    let sessions = after.busy_sessions + new_sessions;
    report.goal(format!("{name}: database sessions that did something"), sessions, Bound::AtMost(0.0), "");
    report.keep(&format!("{name}, sql"), json!({ "sessions": sessions, "transactions": transactions }));
}
