//! `pic routes`: which address leads to which script.

use serde_json::Value;
use shared::name::ScriptName;
use shared::route::PathPattern;

use crate::api::{self, NewRoute, Page, Route};
use crate::context::{AppArg, Context};
use crate::failure::Failure;
use crate::output::TableCell;

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
        Command::Add { path, script, method, dispatch_mode, host, app } => {
            let path = path.to_string();
            let route = NewRoute {
                method: wire_method(method.as_deref()),
                path: &path,
                script: script.as_str(),
                dispatch_mode: dispatch_mode.as_deref(),
                host: host.as_deref(),
            };
            let answer = client.create_route(app.as_str(), &route)?;
            let method = route.method.unwrap_or("ANY");
            context.out.done(&answer, &format!("{method} {path} leads to {script}."))
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
