//! `make bench`: PiCloud beside a bare axum handler and native Rhai, on the same machine, with the
//! same client, in one run. `docs/benchmarks.md` says what each number means.
#![forbid(unsafe_code)]

mod baseline;
mod load;
mod machine;
mod measure;
mod process;
mod report;
mod subject;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use clap::{Parser, Subcommand, ValueEnum};

use crate::measure::Plan;
use crate::report::Report;

/// Measure PiCloud beside its baselines; the exit code is 1 when a goal is missed.
#[derive(Debug, Parser)]
#[command(name = "picloud-bench", version)]
struct Cli {
    /// Short rounds and a short idle window: for a look, not for a verdict
    #[arg(long)]
    quick: bool,
    /// Only these measurements; may be repeated
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Measurement>,
    /// Write everything that was measured to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How long the idle processes are watched, in seconds
    #[arg(long, value_name = "SECONDS")]
    idle_seconds: Option<u64>,
    /// The server to measure; by default the `picloud` beside this program
    #[arg(long, value_name = "FILE")]
    picloud: Option<PathBuf>,
    /// An earlier `picloud`, beside which hello is measured
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// Memory and wake-ups when nothing is asked of PiCloud, and memory after it worked
    Idle,
    /// Hello at 64 connections
    Hello,
    /// Hello at 1 connection
    Latency,
    /// Hello beside an earlier server, given by `--before`
    Before,
    /// Where a request's time goes
    Breakdown,
    /// CPU-bound scripts
    Cpu,
    /// Values and documents that scripts keep
    Data,
    /// A large file, up and down
    Files,
    /// Hello with and without the walls around workers
    Jail,
    /// An app beside one that burns all the CPU it can get
    Neighbour,
    /// Many owners, each with workers of their own
    Pinned,
    /// Workers that are killed under load
    Kill,
    /// Scripts that take all the memory they may
    Memory,
    /// Requests that a full server refuses
    Full,
    /// How soon attacks are over
    Attacks,
    /// Finding a route among many
    Routes,
    /// Events: how fast they are taken and delivered, and how soon
    Events,
    /// Logins: what their time tells, and what a storm of them does
    Login,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a baseline until standard input ends; the bench starts itself so
    #[command(hide = true)]
    Baseline {
        #[arg(value_enum)]
        kind: baseline::Kind,
        /// Where the database is, for the one that asks it
        #[arg(long)]
        database: Option<String>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::Baseline { kind, database }) = &cli.command {
        return finish(baseline::serve(*kind, database.as_deref()).map(|()| true));
    }
    finish(run(&cli))
}

fn finish(result: anyhow::Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report::complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Whether all goals were reached.
fn run(cli: &Cli) -> anyhow::Result<bool> {
    let mut report = Report::default();
    machine::describe(&mut report);
    let mut plan = if cli.quick { Plan::quick() } else { Plan::full() };
    if let Some(seconds) = cli.idle_seconds {
        plan.idle = Duration::from_secs(seconds);
    }
    let wants = |what| cli.only.is_empty() || cli.only.contains(&what);
    let needs_before = cli.only.contains(&Measurement::Before);
    ensure!(cli.before.is_some() || !needs_before, "which server was before? Name it by --before FILE");
    if wants(Measurement::Routes) {
        measure::routes::run(&mut report)?;
    }
    // The only one that needs no server.
    if cli.only == [Measurement::Routes] {
        return conclude(cli, &mut report);
    }
    let mut bench = measure::Bench::start(cli.picloud.as_deref(), plan)?;
    // First, while PiCloud has done nothing yet.
    if wants(Measurement::Idle) {
        measure::idle::run(&bench, &mut report)?;
    }
    if wants(Measurement::Hello) {
        measure::hello::many(&bench, &mut report)?;
    }
    if wants(Measurement::Latency) {
        measure::hello::one(&bench, &mut report)?;
    }
    if let Some(binary) = cli.before.as_deref().filter(|_| wants(Measurement::Before)) {
        measure::before::run(&bench, &mut report, binary)?;
    }
    if wants(Measurement::Breakdown) {
        measure::breakdown::run(&bench, &mut report)?;
    }
    if wants(Measurement::Cpu) {
        measure::cpu::run(&bench, &mut report)?;
    }
    if wants(Measurement::Data) {
        measure::data::run(&bench, &mut report)?;
        measure::documents::run(&bench, &mut report)?;
    }
    if wants(Measurement::Files) {
        measure::files::run(&bench, &mut report)?;
    }
    walls(&wants, &bench, &mut report)?;
    if wants(Measurement::Events) {
        measure::events::run(&bench, &mut report)?;
    }
    if wants(Measurement::Login) {
        measure::login::run(&bench, &mut report)?;
    }
    if wants(Measurement::Idle) {
        measure::idle::after_work(&bench, &mut report)?;
    }
    bench.stop()?;
    conclude(cli, &mut report)
}

/// What holds against strangers, and what it costs.
fn walls(
    wants: &impl Fn(Measurement) -> bool,
    bench: &measure::Bench,
    report: &mut Report,
) -> anyhow::Result<()> {
    if wants(Measurement::Jail) {
        measure::jail::run(bench, report)?;
    }
    if wants(Measurement::Neighbour) {
        measure::neighbour::run(bench, report)?;
    }
    if wants(Measurement::Pinned) {
        measure::tenants::run(bench, report)?;
    }
    if wants(Measurement::Kill) {
        measure::recovery::run(bench, report)?;
    }
    if wants(Measurement::Memory) {
        measure::memory::run(bench, report)?;
    }
    if wants(Measurement::Full) {
        measure::full::run(bench, report)?;
    }
    if wants(Measurement::Attacks) {
        measure::attacks::run(bench, report)?;
    }
    Ok(())
}

fn conclude(cli: &Cli, report: &mut Report) -> anyhow::Result<bool> {
    let reached = report.verdict();
    if let Some(file) = &cli.json {
        report.write(file)?;
    }
    Ok(reached)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn verify_cli() {
        super::Cli::command().debug_assert();
    }
}
