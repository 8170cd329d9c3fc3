//! `pic scripts`: what is deployed.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use shared::name::ScriptName;

use crate::api::{self, Page, Script, Version};
use crate::commands::show;
use crate::context::{AppArg, Context};
use crate::failure::Failure;
use crate::output::{TableCell, Tone};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the scripts of an app.
    Ls {
        #[command(flatten)]
        app: AppArg,
    },
    /// List the versions of a script.
    Versions {
        name: ScriptName,
        #[command(flatten)]
        app: AppArg,
    },
    /// Show what differs between two versions, modules included.
    Diff {
        name: ScriptName,
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        from: u32,
        /// The live version when absent.
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        to: Option<u32>,
        #[command(flatten)]
        app: AppArg,
    },
    /// Make a version live that asks for more than the live one, and waits for that.
    Approve {
        name: ScriptName,
        /// As `pic scripts versions` lists them.
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        version: u32,
        #[command(flatten)]
        app: AppArg,
    },
    /// Switch a script on.
    Enable {
        name: ScriptName,
        #[command(flatten)]
        app: AppArg,
    },
    /// Switch a script off: its routes stay, and answer 503.
    Disable {
        name: ScriptName,
        #[command(flatten)]
        app: AppArg,
    },
    /// Remove a script with all its versions.
    Rm {
        name: ScriptName,
        /// Also when routes lead to it: they are removed with it.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        app: AppArg,
    },
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let client = context.client()?;
    match command {
        Command::Ls { app } => list(context, &client.scripts(app.as_str())?),
        Command::Versions { name, app } => versions(context, &client.versions(app.as_str(), name.as_str())?),
        Command::Diff { name, from, to, app } => {
            diff(context, &client.diff_versions(app.as_str(), name.as_str(), *from, *to)?)
        }
        Command::Approve { name, version, app } => {
            let answer = client.approve(app.as_str(), name.as_str(), *version)?;
            let text = format!("Version {version} of {name} is live in app {}.", app.as_str());
            context.out.done(&answer, &text)
        }
        Command::Enable { name, app } => {
            let answer = client.switch_script(app.as_str(), name.as_str(), true)?;
            context.out.done(&answer, &format!("Script {name} of app {} is on.", app.as_str()))
        }
        Command::Disable { name, app } => {
            let answer = client.switch_script(app.as_str(), name.as_str(), false)?;
            context.out.done(&answer, &format!("Script {name} of app {} is off.", app.as_str()))
        }
        Command::Rm { name, force, app } => {
            let answer = client.delete_script(app.as_str(), name.as_str(), *force)?;
            context.out.done(&answer, &format!("Removed script {name} from app {}.", app.as_str()))
        }
    }
}

#[derive(Debug, Deserialize)]
struct Diff {
    diff: String,
    #[serde(default)]
    limits: BTreeMap<String, Change>,
}

#[derive(Debug, Deserialize)]
struct Change {
    from: Value,
    to: Value,
}

fn diff(context: &Context, answer: &Value) -> Result<(), Failure> {
    let out = &context.out;
    if out.is_json() {
        return out.json(answer);
    }
    let Diff { diff, limits } = api::read(answer)?;
    if diff.is_empty() && limits.is_empty() {
        out.note("The versions are the same.");
        return Ok(());
    }
    show::diff(out, &diff)?;
    for (name, Change { from, to }) in &limits {
        out.line(&format!("limit {name}: {from} → {to}"))?;
    }
    Ok(())
}

fn list(context: &Context, answer: &Value) -> Result<(), Failure> {
    if context.out.is_json() {
        return context.out.json(answer);
    }
    let scripts: Page<Script> = api::read(answer)?;
    let row = |script: &Script| -> Vec<TableCell> {
        let version = script.version.map_or_else(|| "-".to_owned(), |version| version.to_string());
        let description = script.description.as_deref().unwrap_or_default();
        let state = match (script.is_enabled, &script.quarantined_at) {
            (_, Some(_)) => TableCell::toned("quarantined", Tone::Bad),
            (false, None) => TableCell::toned("off", Tone::Warning),
            (true, None) => TableCell::from("on"),
        };
        vec![
            script.name.as_str().into(),
            script.kind.as_str().into(),
            version.into(),
            state,
            description.into(),
        ]
    };
    let rows = scripts.items.iter().map(row).collect();
    context.out.table(&["SCRIPT", "KIND", "VERSION", "STATE", "DESCRIPTION"], rows, "The app has no scripts.")
}

fn versions(context: &Context, answer: &Value) -> Result<(), Failure> {
    if context.out.is_json() {
        return context.out.json(answer);
    }
    let versions: Page<Version> = api::read(answer)?;
    let row = |version: &Version| -> Vec<TableCell> {
        let hash: String = version.bundle_hash.chars().take(12).collect();
        let state = match version {
            Version { is_live: true, .. } => TableCell::toned("live", Tone::Good),
            Version { unapproved, .. } if !unapproved.is_empty() => TableCell::toned("waits", Tone::Warning),
            _ => "".into(),
        };
        let asks = version.capabilities.as_ref().map(show::capabilities).unwrap_or_default();
        vec![
            version.version.to_string().into(),
            show::time(&version.created_at).into(),
            hash.into(),
            state,
            asks.into(),
        ]
    };
    let rows = versions.items.iter().map(row).collect();
    context.out.table(&["VERSION", "CREATED", "BUNDLE", "", "ASKS FOR"], rows, "The script has no versions.")
}
