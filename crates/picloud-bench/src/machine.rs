//! What a run was made on: without it, no number says anything.

use std::process::Command;

use serde_json::json;

use crate::report::Report;

/// Above this, something else was running, and the numbers are not to be trusted.
const QUIET_LOAD: f64 = 0.7;

pub(crate) fn describe(report: &mut Report) {
    let kernel = first_line("/proc/sys/kernel/osrelease");
    let cpu = cpu_model();
    let cores = cores();
    let memory_mib = total_memory_kib() / 1024;
    let commit = commit();
    let load = load_average();
    report.line(format_args!("machine   {cores} cores, {cpu}, {memory_mib} MiB, Linux {kernel}"));
    report.line(format_args!("commit    {commit}"));
    report.line(format_args!("load      {load:.2} in the last minute"));
    if load > QUIET_LOAD {
        report.line("          something else is running: trust ratios more than rates, and neither much");
    }
    report.keep(
        "machine",
        json!({
            "cores": cores, "cpu": cpu, "memory_mib": memory_mib, "kernel": kernel, "commit": commit,
            "load_average": load,
        }),
    );
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

fn total_memory_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn load_average() -> f64 {
    first_line("/proc/loadavg").split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

fn first_line(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

/// The commit, and whether files differ from it.
fn commit() -> String {
    let Some(hash) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    match git(&["status", "--porcelain"]).as_deref() {
        Some("") => hash,
        _ => format!("{hash} with changes"),
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|out| out.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
