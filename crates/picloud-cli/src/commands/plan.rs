//! `pic plan`: what `pic apply` would change.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};
use shared::name::{AppSlug, ScriptName};

use crate::api::{self, Awaiting};
use crate::client::Client;
use crate::commands::show;
use crate::compile_error::CompileError;
use crate::context::Context;
use crate::failure::{Failure, Problem};
use crate::manifest::Folder;
use crate::output::{Output, Tone, visible_line};
use crate::progress::while_waiting;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: FolderArgs,
}

/// Which folder, and for which app.
#[derive(Debug, clap::Args)]
pub(crate) struct FolderArgs {
    /// Folder with `picloud.toml` and the scripts.
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,
    /// App to change; the one in `picloud.toml` when absent, else `default`.
    #[arg(long, env = "PICLOUD_APP", value_name = "APP")]
    app: Option<AppSlug>,
}

/// A folder, and the app it is for.
pub(crate) struct Subject {
    pub(crate) folder: Folder,
    pub(crate) app: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Plan {
    pub(crate) changes: Vec<Change>,
    #[serde(default)]
    missing_secrets: Vec<String>,
    #[serde(default)]
    pub(crate) awaiting: Vec<AwaitingScript>,
    pub(crate) create: usize,
    pub(crate) update: usize,
    pub(crate) delete: usize,
}

/// A script whose version was kept and is not live.
#[derive(Debug, Deserialize)]
pub(crate) struct AwaitingScript {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) awaiting: Awaiting,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Change {
    kind: String,
    name: String,
    action: String,
    #[serde(default)]
    fields: Map<String, Value>,
    #[serde(default)]
    diff: Option<String>,
    #[serde(default)]
    is_rebundled: bool,
    /// What a script asks for beyond its live version.
    #[serde(default)]
    wants_more: Vec<String>,
    /// What of that somebody has to approve first.
    #[serde(default)]
    unapproved: Vec<String>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let client = context.client()?;
    let subject = Subject::read(&args.source)?;
    let answer = subject.ask(context, &client, "plan")?;
    if context.out.is_json() {
        return context.out.json(&answer);
    }
    let plan: Plan = api::read(&answer)?;
    show_plan(&context.out, &plan)?;
    if !plan.changes.is_empty() {
        context.out.note(&format!("`pic apply --app {}` makes it so.", subject.app));
    }
    Ok(())
}

impl Subject {
    pub(crate) fn read(args: &FolderArgs) -> Result<Self, Failure> {
        let folder = Folder::read(&args.folder)?;
        let app = args.app.as_ref().or(folder.app.as_ref()).map_or("default", AppSlug::as_str).to_owned();
        Ok(Self { folder, app })
    }

    /// Sends the manifest; a script that does not compile is shown where it is wrong.
    pub(crate) fn ask(&self, context: &Context, client: &Client, verb: &str) -> Result<Value, Failure> {
        let label = format!("Comparing with {}", context.url);
        let ask = || client.manifest(&self.app, verb, &self.folder.manifest);
        while_waiting(&context.out, &label, ask).map_err(|failure| match failure {
            Failure::Refused(problem) => self.explained(problem),
            other => other,
        })
    }

    fn explained(&self, problem: Box<Problem>) -> Failure {
        let script = problem.more.get("script").and_then(Value::as_str).unwrap_or_default();
        let Ok(name) = script.parse::<ScriptName>() else { return Failure::Refused(problem) };
        let Some((file, script)) = self.folder.files.get(&name).zip(self.folder.manifest.scripts.get(&name))
        else {
            return Failure::Refused(problem);
        };
        match CompileError::read(problem, &file.to_string_lossy(), name.as_str(), &script.source) {
            Ok(error) => Failure::DoesNotCompile(Box::new(error)),
            Err(problem) => Failure::Refused(problem),
        }
    }
}

/// The plan as people read it: a mark and a name for each change, and what is different below.
pub(crate) fn show_plan(out: &Output, plan: &Plan) -> Result<(), Failure> {
    for change in &plan.changes {
        let (mark, tone) = match change.action.as_str() {
            "create" => ("+", Tone::Good),
            "delete" => ("-", Tone::Bad),
            _ => ("~", Tone::Warning),
        };
        let line = visible_line(&format!("{mark} {} {}", change.kind, change.name));
        out.line(&out.stdout.paint(tone, &line))?;
        for (field, values) in &change.fields {
            let (from, to) = (&values["from"], &values["to"]);
            out.line(&visible_line(&format!("    {field}: {from} → {to}")))?;
        }
        if change.is_rebundled {
            out.line("    a module that it imports changes")?;
        }
        show_wants(out, change)?;
        // What is new or goes is shown by its name alone: it is in the folder, or in the versions.
        if let Some(diff) = change.diff.as_deref().filter(|_| change.action == "update") {
            show::diff(out, diff)?;
        }
    }
    for name in &plan.missing_secrets {
        let line = visible_line(&format!("! secret {name} is not set: pic secrets set {name}"));
        out.line(&out.stdout.paint(Tone::Warning, &line))?;
    }
    let Plan { create, update, delete, .. } = plan;
    if plan.changes.is_empty() {
        return out.line("The app is as the folder says; there is nothing to do.");
    }
    let waiting = match plan.changes.iter().filter(|change| !change.unapproved.is_empty()).count() {
        0 => String::new(),
        number => format!(" {number} of them would wait for approval."),
    };
    out.line(&format!("{create} to create, {update} to change, {delete} to remove.{waiting}"))
}

/// What a script would newly reach, and whether somebody is asked before.
fn show_wants(out: &Output, change: &Change) -> Result<(), Failure> {
    let (what, wants) = match (change.unapproved.as_slice(), change.wants_more.as_slice()) {
        ([], []) => return Ok(()),
        ([], wants) => ("asks for more", wants),
        (wants, _) => ("would wait for approval", wants),
    };
    let line = visible_line(&format!("    {what}: {}", wants.join(", ")));
    out.line(&out.stdout.paint(Tone::Warning, &line))
}
