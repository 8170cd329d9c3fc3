//! `pic routes`: which address leads to which script.

use serde::Deserialize;
use serde_json::{Value, json};
use shared::name::ScriptName;
use shared::route::PathPattern;

use crate::api::{self, NewRoute, Page, Route, RoutePolicyArgs};
use crate::context::{AppArg, Context};
use crate::failure::Failure;
use crate::output::{TableCell, Tone, visible_line};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the routes of an app.
    Ls {
        #[command(flatten)]
        app: AppArg,
    },
    /// Lead a path to a script.
    Add {
        /// Exact `/greet`, with parameters `/users/:id`, or a prefix `/files/*`.
        path: PathPattern,
        script: ScriptName,
        /// Method the route answers; all of them when absent.
        #[arg(long, value_parser = parse_method)]
        method: Option<String>,
        /// How requests are delivered.
        #[arg(long, value_parser = ["sync", "durable", "async"], value_name = "MODE")]
        dispatch_mode: Option<String>,
        /// Host the route answers on; all of the app's hosts when absent.
        #[arg(long)]
        host: Option<String>,
        #[command(flatten)]
        policy: RoutePolicyArgs,
        #[command(flatten)]
        app: AppArg,
    },
    /// Show which route an address would take, and what each of the others lacks.
    Match {
        /// `https://shop.example.com/cart`, or a path on the app's own host.
        #[arg(value_name = "URL")]
        address: String,
        #[arg(long, value_parser = parse_method)]
        method: Option<String>,
        #[command(flatten)]
        app: AppArg,
    },
    /// Remove a route.
    Rm {
        /// As `pic routes ls` shows it.
        id: String,
        #[command(flatten)]
        app: AppArg,
    },
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let client = context.client()?;
    match command {
        Command::Ls { app } => list(context, &client.routes(app.as_str())?),
        Command::Add { path, script, method, dispatch_mode, host, policy, app } => {
            let path = path.to_string();
            let route = NewRoute {
                method: wire_method(method.as_deref()),
                path: &path,
                script: script.as_str(),
                dispatch_mode: dispatch_mode.as_deref(),
                host: host.as_deref(),
                policy: policy.clone(),
            };
            let answer = client.create_route(app.as_str(), &route)?;
            let method = route.method.unwrap_or("ANY");
            context.out.done(&answer, &format!("{method} {path} leads to {script}."))
        }
        Command::Match { address, method, app } => {
            let question = json!({ "url": address, "method": method });
            explain(context, &client.match_route(app.as_str(), &question)?)
        }
        Command::Rm { id, app } => {
            let answer = client.delete_route(app.as_str(), id)?;
            context.out.done(&answer, &format!("Removed route {id}."))
        }
    }
}

fn list(context: &Context, answer: &Value) -> Result<(), Failure> {
    if context.out.is_json() {
        return context.out.json(answer);
    }
    let routes: Page<Route> = api::read(answer)?;
    let row = |route: &Route| -> Vec<TableCell> {
        let mode = route.dispatch_mode.as_deref().unwrap_or("sync");
        let host = route.host.as_deref().unwrap_or("any");
        vec![
            route.method().into(),
            route.path.as_str().into(),
            route.script.as_str().into(),
            mode.into(),
            host.into(),
            route.id.as_str().into(),
        ]
    };
    let rows = routes.items.iter().map(row).collect();
    context.out.table(&["METHOD", "PATH", "SCRIPT", "MODE", "HOST", "ID"], rows, "The app has no routes.")
}

#[derive(Debug, Deserialize)]
struct Explanation {
    method: String,
    path: String,
    host: Host,
    outcome: String,
    matched: Option<Matched>,
    considered: Vec<Considered>,
}

#[derive(Debug, Deserialize)]
struct Host {
    name: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
struct Matched {
    script: String,
    version: u32,
    params: Value,
    rest: String,
}

#[derive(Debug, Deserialize)]
struct Considered {
    method: String,
    host: String,
    path: String,
    script: String,
    verdict: String,
    reason: String,
}

fn explain(context: &Context, answer: &Value) -> Result<(), Failure> {
    let out = &context.out;
    if out.is_json() {
        return out.json(answer);
    }
    let Explanation { method, path, host, outcome, matched, considered } = api::read(answer)?;
    let reached = match matched {
        Some(Matched { script, version, params, rest }) => {
            let rest = if rest.is_empty() { String::new() } else { format!(" rest {rest:?}") };
            format!("{script}@{version} params {params}{rest}")
        }
        None => outcome.replace('_', " "),
    };
    out.line(&visible_line(&format!("{method} {}{path} → {reached}", host.name)))?;
    out.note(&visible_line(&format!("{}: {}", host.name, host.reason)));
    let row = |route: &Considered| -> Vec<TableCell> {
        let tone = if route.verdict == "answers" { Tone::Good } else { Tone::Faint };
        vec![
            TableCell::toned(&route.verdict, tone),
            route.method.as_str().into(),
            route.host.as_str().into(),
            route.path.as_str().into(),
            route.script.as_str().into(),
            route.reason.as_str().into(),
        ]
    };
    let rows = considered.iter().map(row).collect();
    out.table(&["VERDICT", "METHOD", "HOST", "PATH", "SCRIPT", "WHY"], rows, "The app has no routes.")
}

/// A method in capitals, as it goes over the wire.
pub(crate) fn parse_method(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err("a method is one word, as GET or POST");
    }
    Ok(text.to_ascii_uppercase())
}

/// How the API says it: a route for every method has none.
pub(crate) fn wire_method(method: Option<&str>) -> Option<&str> {
    method.filter(|method| !matches!(*method, "" | "*" | "ANY" | "any"))
}
