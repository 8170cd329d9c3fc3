//! `pic deploy`: a file becomes the live version of a script, and routes lead to it.

mod plan;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use shared::limits::{LimitsPatch, SOURCE_BYTES_MAX};
use shared::name::ScriptName;
use shared::route::PathPattern;
use shared::script::ScriptKind;

use self::plan::RoutePlan;
use crate::api::{self, NewRoute, PutScript, RoutePolicyArgs, Script};
use crate::client::Client;
use crate::commands::{routes, show};
use crate::compile_error::CompileError;
use crate::context::{AppArg, Context};
use crate::curl;
use crate::failure::Failure;
use crate::output::{Output, Tone, visible_line};
use crate::progress::while_waiting;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rhai source; `-` reads standard input.
    file: PathBuf,
    /// Name of the script; the file's name without its ending when absent.
    #[arg(long)]
    name: Option<ScriptName>,
    /// Route to the script, as `/hello/:name` or `/files/*`; may be given several times.
    #[arg(long = "route", value_name = "PATH")]
    routes: Vec<PathPattern>,
    /// Method the routes answer; all of them when absent.
    #[arg(long, value_parser = routes::parse_method)]
    method: Option<String>,
    /// Deploy a module for other scripts to import, rather than an endpoint.
    #[arg(long, conflicts_with = "routes")]
    module: bool,
    /// What the script is for, shown by `pic scripts ls`.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// CPU limit; 10000000000 is about a second.
    #[arg(long, value_name = "N")]
    fuel: Option<u64>,
    /// Memory limit in MiB.
    #[arg(long, value_name = "N")]
    memory_mb: Option<u32>,
    /// Wall-clock limit in milliseconds.
    #[arg(long, value_name = "N")]
    timeout_ms: Option<u32>,
    #[command(flatten)]
    app: AppArg,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let app = args.app.as_str();
    let name = name(args)?;
    let source = read(&args.file)?;
    let client = context.client()?;
    // Asked before anything is changed: a deploy whose routes cannot be is no deploy at all.
    let plan = RoutePlan::new(api::read(&client.routes(app)?)?, args, name.as_str())?;
    let mut answer = put(context, &client, args, name.as_str(), &source)?;
    let script: Script = api::read(&answer)?;
    let mut created = Vec::new();
    for pattern in &plan.missing {
        let path = pattern.to_string();
        let route = NewRoute {
            method: routes::wire_method(args.method.as_deref()),
            path: &path,
            script: name.as_str(),
            dispatch_mode: None,
            host: None,
            policy: RoutePolicyArgs::default(),
        };
        created.push(client.create_route(app, &route)?);
    }
    if context.out.is_json() {
        if let Value::Object(fields) = &mut answer {
            fields.insert("created_routes".to_owned(), Value::Array(created));
        }
        return context.out.json(&answer);
    }
    report(context, args, &script, &plan)
}

fn put(context: &Context, client: &Client, args: &Args, name: &str, source: &str) -> Result<Value, Failure> {
    let limits = LimitsPatch {
        fuel: args.fuel,
        memory_mb: args.memory_mb,
        timeout_ms: args.timeout_ms,
        ..LimitsPatch::default()
    };
    let script = PutScript {
        source,
        kind: args.module.then_some(ScriptKind::Module.as_str()),
        limits: Some(limits).filter(|limits| *limits != LimitsPatch::default()),
        description: args.description.as_deref(),
    };
    let label = format!("Deploying {name} to {}", context.url);
    let file = args.file.to_string_lossy();
    while_waiting(&context.out, &label, || client.put_script(args.app.as_str(), name, &script)).map_err(
        |failure| match failure {
            Failure::Refused(problem) => match CompileError::read(problem, &file, name, source) {
                Ok(error) => Failure::DoesNotCompile(Box::new(error)),
                Err(problem) => Failure::Refused(problem),
            },
            other => other,
        },
    )
}

fn report(context: &Context, args: &Args, script: &Script, plan: &RoutePlan) -> Result<(), Failure> {
    let out = &context.out;
    show::warnings(out, &script.warnings);
    let app = args.app.as_str();
    match &script.awaiting {
        Some(waiting) => show::awaiting(out, app, &script.name, waiting)?,
        None => {
            let version = script.version.map_or_else(String::new, |version| format!(" version {version}"));
            let live = out.stdout.paint(Tone::Good, "live");
            out.line(&format!("{}{version} is {live} in app {app}.", script.name))?;
            report_capabilities(out, script)?;
        }
    }
    for user in &script.rebundled {
        out.line(&format!("{} uses it and is now version {}.", user.name, user.version))?;
    }
    let method = args.method.as_deref().unwrap_or("ANY");
    for pattern in &plan.missing {
        out.line(&format!("{method} {pattern} leads to it."))?;
    }
    for pattern in &plan.present {
        out.line(&format!("{method} {pattern} leads to it already."))?;
    }
    match plan.example() {
        Some((method, pattern)) => {
            let address = context.url.app(args.app.as_str());
            out.line(&format!("\n  {}", curl::line(&address, method, pattern)))
        }
        None if script.kind == ScriptKind::Module.as_str() => {
            out.note(&format!("Import it with `import \"{0}\" as {0};`.", script.name));
            Ok(())
        }
        None => {
            let name = &script.name;
            out.note(&format!("No route leads to it yet: `pic routes add /{name} {name}` adds one."));
            Ok(())
        }
    }
}

/// What it asks for, and what of that is new.
fn report_capabilities(out: &Output, script: &Script) -> Result<(), Failure> {
    let asks = show::capabilities(&script.capabilities);
    if !asks.is_empty() {
        out.line(&format!("It asks for {asks}."))?;
    }
    if !script.wants_more.is_empty() {
        let more = visible_line(&script.wants_more.join(", "));
        out.line(&out.stdout.paint(Tone::Warning, &format!("The version before did not ask for {more}.")))?;
    }
    Ok(())
}

fn name(args: &Args) -> Result<ScriptName, Failure> {
    if let Some(name) = &args.name {
        return Ok(name.clone());
    }
    let stem = args.file.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    stem.parse().map_err(|error| Failure::Usage(format!("{error}; give another with --name")))
}

fn read(file: &Path) -> Result<String, Failure> {
    let bytes = read_bounded(file).map_err(|source| Failure::File { path: file.to_owned(), source })?;
    if bytes.len() > SOURCE_BYTES_MAX {
        let limit = SOURCE_BYTES_MAX >> 20;
        return Err(Failure::Source(format!(
            "{} is over the limit of {limit} MiB for a script",
            file.display()
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        Failure::Source(format!("{} is not UTF-8 text: line {line}, byte {at} of the file", file.display()))
    })
}

/// One byte over the limit is enough to know.
fn read_bounded(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = SOURCE_BYTES_MAX as u64 + 1;
    if file == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        fs::File::open(file)?.take(limit).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
