//! `pic egress`: where an app's scripts may send requests, and where they have been.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api;
use crate::commands::show;
use crate::context::{AppArg, Context};
use crate::failure::Failure;
use crate::output::{Output, visible_line};

/// Ports that scripts may ask whatever the app says.
const ALWAYS: [u16; 4] = [80, 443, 8080, 8443];

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show where an app's scripts may send requests.
    Show {
        #[command(flatten)]
        app: AppArg,
    },
    /// Change where they may: each list that is given takes the place of the one there was.
    Set {
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        app: AppArg,
    },
    /// List where they have been, since when, and which script went there first.
    Destinations {
        #[command(flatten)]
        app: AppArg,
    },
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Change {
    /// Host that may be reached, such as `api.example.com` or `*.example.com`, and none that is not named.
    #[arg(long, value_name = "HOST")]
    allow: Vec<String>,
    /// Let every host be reached that is public and not denied.
    #[arg(long, conflicts_with_all = ["allow", "allow_none"])]
    allow_all: bool,
    /// Let none be reached.
    #[arg(long, conflicts_with = "allow")]
    allow_none: bool,
    /// Host that may not be reached.
    #[arg(long, value_name = "HOST")]
    deny: Vec<String>,
    /// Deny no host by name.
    #[arg(long, conflicts_with = "deny")]
    deny_none: bool,
    /// Port besides 80, 443, 8080 and 8443.
    #[arg(long = "port", value_name = "PORT")]
    ports: Vec<u16>,
    /// No further ports.
    #[arg(long, conflicts_with = "ports")]
    no_ports: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Rules {
    /// Everywhere when there is no such list.
    allow: Option<Vec<String>>,
    deny: Vec<String>,
    ports: Vec<u16>,
}

#[derive(Debug, Deserialize)]
struct Destination {
    destination: String,
    #[serde(default)]
    script: String,
    #[serde(default)]
    first_seen_at: Value,
}

/// The list, and what it has no room for.
#[derive(Debug, Deserialize)]
struct Destinations {
    items: Vec<Destination>,
    passed_over: Option<PassedOver>,
}

#[derive(Debug, Deserialize)]
struct PassedOver {
    count: u64,
    last_destination: String,
    #[serde(default)]
    last_script: String,
    #[serde(default)]
    last_at: Value,
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let (out, client) = (&context.out, context.client()?);
    match command {
        Command::Show { app } => show_rules(out, &client.get(&path(app))?),
        Command::Set { change, app } => {
            let rules: Rules = api::read(&client.get(&path(app))?)?;
            show_rules(out, &client.put(&path(app), &change.applied(rules))?)
        }
        Command::Destinations { app } => {
            let answer = client.list(&format!("{}/destinations", path(app)), &[], usize::MAX)?;
            if out.is_json() {
                return out.json(&answer);
            }
            let seen: Destinations = api::read(&answer)?;
            let row = |seen: Destination| {
                let since = show::time(&seen.first_seen_at);
                vec![seen.destination.into(), since.into(), seen.script.into()]
            };
            let rows = seen.items.into_iter().map(row).collect();
            out.table(&["DESTINATION", "SINCE", "FIRST SCRIPT"], rows, "No script has sent a request.")?;
            if let Some(more) = seen.passed_over {
                let (last, script, at) = (more.last_destination, more.last_script, show::time(&more.last_at));
                out.note(&visible_line(&format!(
                    "The list is full, and {} more were passed over: the last was {last}, by {script}, {at}.",
                    more.count
                )));
            }
            Ok(())
        }
    }
}

fn path(app: &AppArg) -> String {
    format!("/apps/{}/egress", app.as_str())
}

impl Change {
    /// The rules with what is given in the place of what there was.
    fn applied(&self, mut rules: Rules) -> Rules {
        if self.allow_all {
            rules.allow = None;
        } else if self.allow_none || !self.allow.is_empty() {
            rules.allow = Some(self.allow.clone());
        }
        if self.deny_none || !self.deny.is_empty() {
            rules.deny.clone_from(&self.deny);
        }
        if self.no_ports || !self.ports.is_empty() {
            rules.ports.clone_from(&self.ports);
        }
        rules
    }
}

fn show_rules(out: &Output, answer: &Value) -> Result<(), Failure> {
    if out.is_json() {
        return out.json(answer);
    }
    let Rules { allow, deny, ports } = api::read(answer)?;
    let listed = |names: &[String], none: &str| match names {
        [] => none.to_owned(),
        names => names.join(", "),
    };
    let allow = allow.map_or_else(|| "every public host".to_owned(), |hosts| listed(&hosts, "no host"));
    let ports: Vec<String> = ALWAYS.iter().chain(&ports).map(u16::to_string).collect();
    for (what, value) in
        [("allow", allow), ("deny", listed(&deny, "no host by name")), ("ports", ports.join(", "))]
    {
        out.line(&visible_line(&format!("{what:<6} {value}")))?;
    }
    Ok(())
}
