//! `pic apply`: makes an app what a folder says, in one transaction.

use std::io::{self, BufRead, IsTerminal};

use crate::api;
use crate::commands::plan::{FolderArgs, Plan, Subject, show_plan};
use crate::commands::show;
use crate::context::Context;
use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: FolderArgs,
    /// Also when scripts or routes are removed, without asking.
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let (out, client) = (&context.out, context.client()?);
    let subject = Subject::read(&args.source)?;
    let planned: Plan = api::read(&subject.ask(context, &client, "plan")?)?;
    if !out.is_json() {
        show_plan(out, &planned)?;
    }
    if planned.delete > 0 && !args.yes && !is_agreed(context, &planned)? {
        return Err(Failure::Usage("nothing was changed; --yes removes without asking".to_owned()));
    }
    let answer = subject.ask(context, &client, "apply")?;
    if out.is_json() {
        return out.json(&answer);
    }
    let applied: Plan = api::read(&answer)?;
    for script in &applied.awaiting {
        show::awaiting(out, &subject.app, &script.name, &script.awaiting)?;
    }
    if !applied.changes.is_empty() && applied.awaiting.is_empty() {
        out.line(&format!("App {} is as the folder says now.", subject.app))?;
    }
    Ok(())
}

/// Whoever cannot be asked has not agreed.
fn is_agreed(context: &Context, plan: &Plan) -> Result<bool, Failure> {
    if context.out.is_json() || !io::stdin().is_terminal() {
        return Ok(false);
    }
    context.out.prompt(&format!("Remove {} for good? [y/N] ", plan.delete));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(Failure::Output)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
