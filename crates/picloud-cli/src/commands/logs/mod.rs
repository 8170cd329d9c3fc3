//! `pic logs`: what scripts said, and how executions failed; oldest first, as in any log.

mod follow;

use std::collections::HashSet;

use serde_json::{Value, json};
use shared::name::ScriptName;

use crate::api::{self, Execution};
use crate::client::{Client, ExecutionFilter};
use crate::commands::executions::parse_limit;
use crate::commands::show;
use crate::context::{AppArg, Context};
use crate::failure::Failure;
use crate::output::{Output, Tone, visible_line};

const LIMIT: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only those of this script.
    #[arg(long)]
    script: Option<ScriptName>,
    /// Show new lines as they come, until interrupted.
    #[arg(short, long)]
    follow: bool,
    /// Executions of the past to show; 20, or none when following.
    #[arg(long, value_parser = parse_limit)]
    limit: Option<usize>,
    #[command(flatten)]
    app: AppArg,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let client = context.client()?;
    if !args.follow {
        let past = past(&client, args, args.limit.unwrap_or(LIMIT))?;
        if context.out.is_json() {
            return context.out.json(&json!({ "items": past }));
        }
        return show_past(context, &past).map(drop);
    }
    // Opened before the past is read, so that nothing falls between the two.
    let stream = client.tail(args.app.as_str(), "")?;
    let mut shown = HashSet::new();
    if let Some(limit) = args.limit {
        let past = past(&client, args, limit)?;
        shown = if context.out.is_json() { print_past(context, &past)? } else { show_past(context, &past)? };
    }
    follow::run(context, &client, args, stream, &shown)
}

/// The latest executions with their logs, oldest first.
fn past(client: &Client, args: &Args, limit: usize) -> Result<Vec<Value>, Failure> {
    let script = args.script.as_ref().map(ToString::to_string);
    let filter = ExecutionFilter { script, status: None, limit };
    let mut answer = client.executions(args.app.as_str(), &filter)?;
    let Value::Array(mut items) = answer["items"].take() else { return Ok(Vec::new()) };
    for item in &mut items {
        // Lists may leave the logs out.
        if item.get("logs").is_none()
            && let Some(id) = item.get("id").and_then(Value::as_str)
        {
            *item = client.execution(args.app.as_str(), id)?;
        }
    }
    items.reverse();
    Ok(items)
}

/// Returns the ids of what was shown.
fn show_past(context: &Context, past: &[Value]) -> Result<HashSet<String>, Failure> {
    let mut shown = HashSet::new();
    for item in past {
        let execution: Execution = api::read(item)?;
        let head = head(&context.out, &execution.started_at, &execution.script, Some(execution.version));
        for line in execution.logs.iter().flatten() {
            context.out.line(&format!("{head} {}", show::log_line(context.out.stdout, line)))?;
        }
        if execution.status != "ok" {
            context.out.line(&format!("{head} {}", end_line(&context.out, &execution)))?;
        }
        shown.insert(execution.id);
    }
    Ok(shown)
}

fn print_past(context: &Context, past: &[Value]) -> Result<HashSet<String>, Failure> {
    let mut shown = HashSet::new();
    for item in past {
        context.out.json_line(item)?;
        shown.extend(item.get("id").and_then(Value::as_str).map(ToOwned::to_owned));
    }
    Ok(shown)
}

/// When and who.
fn head(out: &Output, time: &Value, script: &str, version: Option<u32>) -> String {
    let time = if time.is_null() { String::new() } else { format!("{} ", show::time(time)) };
    let version = version.map_or_else(String::new, |version| format!("@{version}"));
    let text = format!("{}{}{version}", visible_line(&time), visible_line(script));
    out.stdout.paint(Tone::Faint, &text).into_owned()
}

/// How an execution ended.
fn end_line(out: &Output, execution: &Execution) -> String {
    let status = visible_line(&execution.status);
    let status = out.stdout.paint(show::status_tone(&status), &status).into_owned();
    let why = execution.error.as_ref().map(|error| format!(": {}", visible_line(&error.text())));
    format!("{status}{} ({})", why.unwrap_or_default(), show::cost(execution))
}
