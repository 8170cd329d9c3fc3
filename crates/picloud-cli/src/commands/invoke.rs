//! `pic invoke`: a test run. The answer's body goes to standard output, all about it to standard
//! error.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use shared::name::ScriptName;

use crate::api::{self, Invoked, Would};
use crate::commands::{routes, show};
use crate::context::{AppArg, Context};
use crate::failure::Failure;
use crate::output::{Output, Tone, visible, visible_line};
use crate::progress::while_waiting;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    name: ScriptName,
    /// Method the script sees; GET, or POST when there is data.
    #[arg(long, value_parser = routes::parse_method)]
    method: Option<String>,
    /// Path the script sees.
    #[arg(long, default_value = "/")]
    path: String,
    /// Header of the request; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME:VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Query parameter; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_query)]
    query: Vec<(String, String)>,
    /// Body of the request; `@file` reads a file, `@-` standard input.
    #[arg(short, long, value_name = "STRING|@FILE|@-")]
    data: Option<String>,
    /// Take back all that the script does, and show what it would have done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    app: AppArg,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let client = context.client()?;
    let request = request(args)?;
    let label = format!("Running {}", args.name);
    let run = || client.invoke(args.app.as_str(), args.name.as_str(), &request, args.dry_run);
    let answer = while_waiting(&context.out, &label, run)?;
    let invoked: Invoked = api::read(&answer)?;
    if context.out.is_json() {
        context.out.json(&answer)?;
    } else {
        report(context, &invoked)?;
    }
    if invoked.status >= 400 { Err(Failure::ScriptFailed) } else { Ok(()) }
}

fn request(args: &Args) -> Result<Value, Failure> {
    let body = args.data.as_deref().map(data).transpose()?;
    let default_method = if body.is_some() { "POST" } else { "GET" };
    let mut headers: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in &args.headers {
        // What HTTP makes of a header given twice.
        headers
            .entry(name)
            .and_modify(|before| *before = format!("{before}, {value}"))
            .or_insert_with(|| value.clone());
    }
    if let Some(body) = &body
        && !headers.contains_key("content-type")
    {
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok();
        let media = if is_json { "application/json" } else { "text/plain; charset=utf-8" };
        headers.insert("content-type", media.to_owned());
    }
    let method = args.method.as_deref().unwrap_or(default_method);
    let mut request = json!({ "method": method, "path": args.path, "headers": headers });
    if !args.query.is_empty() {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&args.query).finish();
        request["query"] = Value::String(query);
    }
    if let Some(body) = body {
        request["body"] = Value::String(body);
    }
    Ok(request)
}

fn data(given: &str) -> Result<String, Failure> {
    let Some(file) = given.strip_prefix('@') else { return Ok(given.to_owned()) };
    let read = if file == "-" {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(file)
    };
    read.map_err(|source| Failure::File { path: file.into(), source })
}

fn report(context: &Context, invoked: &Invoked) -> Result<(), Failure> {
    let out = &context.out;
    show_body(out, invoked)?;
    let execution = &invoked.execution;
    let tone = if invoked.status < 400 { Tone::Good } else { Tone::Bad };
    let status = invoked.status.to_string();
    let outcome = out.stderr.paint(show::status_tone(&execution.status), &execution.status).into_owned();
    out.note(&format!(
        "{} {outcome}, {}@{}, {}",
        out.stderr.paint(tone, &status),
        visible_line(&execution.script),
        execution.version,
        show::cost(execution)
    ));
    for line in execution.logs.iter().flatten() {
        out.note(&show::log_line(out.stderr, line));
    }
    if let Some(error) = &execution.error {
        out.note(&format!("{} {}", out.stderr.paint(Tone::Bad, "error:"), visible(&error.text())));
    }
    if let Some(would) = &invoked.dry_run {
        show_would(out, would);
    }
    out.note(&out.stderr.paint(Tone::Faint, &format!("execution {}", visible_line(&execution.id))));
    Ok(())
}

fn show_would(out: &Output, would: &Would) {
    for deed in &would.deeds {
        let value = deed.value.as_ref().map(|value| format!(" {value}")).unwrap_or_default();
        out.note(&visible_line(&format!("would {} {}{value}", deed.call, deed.target)));
    }
    if would.without_value > 0 {
        out.note(&format!("{} of them without their value: it is too much to be shown", would.without_value));
    }
    if would.more > 0 {
        out.note(&format!("and {} more", would.more));
    }
    out.note(&format!("{} events; nothing of it was kept or sent", would.events));
    for budget in &would.budget {
        out.note(&visible_line(&format!("{:.2} % of {}", budget.share * 100.0, budget.name)));
    }
}

fn show_body(out: &Output, invoked: &Invoked) -> Result<(), Failure> {
    let is_json = invoked.headers.get("content-type").is_some_and(|media| media.contains("json"));
    match &invoked.body {
        // Text as it was sent; of JSON, a string is one in quotes.
        Value::String(text) if !is_json => out.body(text.as_bytes()),
        Value::Null if !is_json => Ok(()),
        Value::Object(fields) if !is_json => match fields.get("base64").and_then(Value::as_str) {
            Some(text) => out.body(&STANDARD.decode(text).unwrap_or_else(|_| text.as_bytes().to_vec())),
            None => out.json(&invoked.body),
        },
        other => out.json(other),
    }
}

fn parse_header(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once(':').ok_or("a header is written name:value")?;
    let name = name.trim();
    if name.is_empty()
        || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    {
        return Err("a header's name is made of letters, digits, '-' and '_'");
    }
    Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
}

fn parse_query(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("a query parameter is written key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}
