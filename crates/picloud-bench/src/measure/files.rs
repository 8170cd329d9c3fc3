//! A large file up and down: how quick beside bare axum, and what the parent needs for it.

use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::json;
use ureq::{Agent, SendBody};

use super::Bench;
use crate::load::noise;
use crate::process;
use crate::report::{Bound, Report, median};

/// Turns of each.
const TURNS: usize = 3;

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let bytes = bench.plan.file_bytes;
    report.heading(format_args!("A file of {} MiB, up and down", bytes >> 20));
    let pid = bench.picloud.pid();
    let mut ratios = Vec::new();
    let mut grown_kib = 0;
    for _ in 0..TURNS {
        let bare = rate(bytes, || upload_bare(bench, bytes))?;
        process::forget_peak(pid)?;
        let before = process::memory(pid)?.resident_kib;
        let mut file = String::new();
        let up = rate(bytes, || {
            file = bench.admin.upload("bench", bytes)?;
            Ok(())
        })?;
        let down = rate(bytes, || {
            let read = bench.admin.download(&file)?;
            ensure!(read == bytes, "{read} of {bytes} bytes came back");
            Ok(())
        })?;
        let grown = process::peak_kib(pid)?.saturating_sub(before);
        grown_kib = grown_kib.max(grown);
        report.line(format_args!(
            "  up {up:.0} MiB/s, bare axum {bare:.0} MiB/s; down {down:.0} MiB/s; the parent grew by {grown} KiB at most"
        ));
        ratios.push(up / bare);
    }
    let ratio = median(ratios.iter().copied());
    report.goal("files: upload / bare axum", ratio, Bound::AtLeast(0.5), "×");
    report.goal("files: growth of the parent", grown_kib as f64 / 1024.0, Bound::AtMost(32.0), "MiB");
    report.keep("files", json!({ "bytes": bytes, "ratios": ratios, "grown_kib": grown_kib }));
    Ok(())
}

/// MiB in a second.
fn rate(bytes: u64, act: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let began = Instant::now();
    act()?;
    Ok((bytes >> 20) as f64 / began.elapsed().as_secs_f64())
}

fn upload_bare(bench: &Bench, bytes: u64) -> anyhow::Result<()> {
    let agent: Agent = Agent::config_builder().max_idle_connections(0).build().into();
    let mut content = std::io::Read::take(noise(), bytes);
    let request = agent.put(format!("http://{}/bench/file", bench.axum.address));
    let answer = request.header("content-length", bytes).send(SendBody::from_reader(&mut content));
    ensure!(answer.context("the bare upload failed")?.status() == 200, "the bare upload was refused");
    Ok(())
}
