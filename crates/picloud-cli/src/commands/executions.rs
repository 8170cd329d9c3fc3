//! `pic executions`: what ran, newest first.

use shared::invocation::ExecutionStatus;
use shared::name::ScriptName;

use crate::api::{self, Execution, Page};
use crate::client::ExecutionFilter;
use crate::commands::show;
use crate::context::{AppArg, Context};
use crate::failure::Failure;
use crate::output::TableCell;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only those of this script.
    #[arg(long)]
    script: Option<ScriptName>,
    /// Only those that ended so.
    #[arg(long, value_parser = ExecutionStatus::ALL.map(ExecutionStatus::as_str))]
    status: Option<String>,
    /// How many at most.
    #[arg(long, default_value_t = 20, value_parser = parse_limit)]
    limit: usize,
    #[command(flatten)]
    app: AppArg,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let filter = ExecutionFilter {
        script: args.script.as_ref().map(ToString::to_string),
        status: args.status.clone(),
        limit: args.limit,
    };
    let answer = context.client()?.executions(args.app.as_str(), &filter)?;
    if context.out.is_json() {
        return context.out.json(&answer);
    }
    let executions: Page<Execution> = api::read(&answer)?;
    let header = ["STARTED", "STATUS", "SCRIPT", "DURATION", "FUEL", "MEMORY", "ID"];
    let rows = executions.items.iter().map(row).collect();
    context.out.table(&header, rows, "Nothing ran that fits.")
}

fn row(execution: &Execution) -> Vec<TableCell> {
    vec![
        show::time(&execution.started_at).into(),
        show::status(&execution.status),
        format!("{}@{}", execution.script, execution.version).into(),
        show::milliseconds(execution.duration_ms).into(),
        show::count(execution.fuel).into(),
        show::mebibytes(execution.peak_memory_bytes).into(),
        execution.id.as_str().into(),
    ]
}

/// At least one, and no more than anyone reads.
pub(crate) fn parse_limit(text: &str) -> Result<usize, &'static str> {
    match text.parse() {
        Ok(limit @ 1..=100_000) => Ok(limit),
        _ => Err("a limit is a number from 1 to 100000"),
    }
}
