//! The live part of `pic logs`: reads the stream as it comes, and comes back after it broke.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use ureq::BodyReader;

use super::{Args, end_line, head};
use crate::api::{self, Execution, LogLine};
use crate::client::Client;
use crate::commands::show;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::sse::Events;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Goes on until interrupted, or until the server refuses to go on. Executions in `shown` are
/// passed over.
pub(super) fn run(
    context: &Context,
    client: &Client,
    args: &Args,
    mut stream: BodyReader<'static>,
    shown: &HashSet<String>,
) -> Result<(), Failure> {
    let mut last_id = String::new();
    loop {
        // A stream that brought something was a working one: the first try to come back is at once.
        let mut wait =
            if read(context, args, stream, shown, &mut last_id)? { None } else { Some(FIRST_WAIT) };
        context.out.note("The stream ended; connecting again.");
        stream = loop {
            if let Some(wait) = wait {
                thread::sleep(wait);
            }
            match client.tail(args.app.as_str(), &last_id) {
                Ok(stream) => break stream,
                Err(failure) if failure.exit() == Exit::Unavailable => {}
                Err(failure) => return Err(failure),
            }
            wait = Some(wait.map_or(FIRST_WAIT, |wait| (wait * 2).min(LONGEST_WAIT)));
        };
    }
}

/// Shows a stream to its end. Returns whether there was anything in it.
fn read(
    context: &Context,
    args: &Args,
    stream: BodyReader<'static>,
    shown: &HashSet<String>,
    last_id: &mut String,
) -> Result<bool, Failure> {
    let mut was_alive = false;
    for event in Events::new(stream) {
        // A broken connection ends a stream as its end does.
        let Ok(event) = event else { break };
        was_alive = true;
        last_id.clone_from(&event.id);
        let value: Value = serde_json::from_str(&event.data).map_err(Failure::UnexpectedAnswer)?;
        show(context, args, &event.name, &value, shown)?;
    }
    Ok(was_alive)
}

fn show(
    context: &Context,
    args: &Args,
    kind: &str,
    value: &Value,
    shown: &HashSet<String>,
) -> Result<(), Failure> {
    let out = &context.out;
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    if kind == "gap" {
        let missed = value.get("missed").and_then(Value::as_u64).unwrap_or_default();
        out.warn(&format!("{missed} executions passed unseen, because they came too fast"));
        return Ok(());
    }
    let script = text("script").unwrap_or_default();
    let is_wanted = args.script.as_ref().is_none_or(|wanted| wanted.as_str() == script);
    // A line names its execution; the end of an execution has its own id.
    let id = text("execution").or_else(|| text("id"));
    if !is_wanted || id.is_some_and(|id| shown.contains(id)) {
        return Ok(());
    }
    if out.is_json() {
        return out.json_line(value);
    }
    let version = value.get("version").and_then(Value::as_u64).and_then(|version| version.try_into().ok());
    let time = ["time", "started_at"].iter().find_map(|field| value.get(*field)).unwrap_or(&Value::Null);
    let head = head(out, time, script, version);
    match kind {
        "log" => {
            let line: LogLine = api::read(value)?;
            out.line(&format!("{head} {}", show::log_line(out.stdout, &line)))
        }
        // A good end says nothing, here as in the log of the past.
        "execution" if text("status") != Some("ok") => {
            let execution: Execution = api::read(value)?;
            out.line(&format!("{head} {}", end_line(out, &execution)))
        }
        _ => Ok(()),
    }
}
