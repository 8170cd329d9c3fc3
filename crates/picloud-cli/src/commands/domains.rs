//! `pic domains`: hosts of an app's own.

use serde::Deserialize;
use serde_json::Value;
use shared::host::HostPattern;

use crate::api::{self, Page};
use crate::client::Client;
use crate::context::{AppArg, Context};
use crate::failure::Failure;
use crate::output::visible_line;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the domains that an app has claimed.
    Ls {
        #[command(flatten)]
        app: AppArg,
    },
    /// Claim `shop.example.com`, all below one with `*.example.com`, or one label `{tenant}.example.com`.
    Add {
        domain: HostPattern,
        #[command(flatten)]
        app: AppArg,
    },
    /// Look for the record that proves a claim.
    Verify {
        domain: HostPattern,
        /// Believe the claim without proof; for owners of the instance.
        #[arg(long)]
        waive: bool,
        #[command(flatten)]
        app: AppArg,
    },
    /// Let go of a domain.
    Rm {
        domain: HostPattern,
        /// Also the routes that are for its hosts.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        app: AppArg,
    },
}

#[derive(Debug, Deserialize)]
struct Domain {
    id: String,
    domain: String,
    #[serde(default)]
    verified_by: Option<String>,
    #[serde(default)]
    record: Option<Record>,
}

#[derive(Debug, Deserialize)]
struct Record {
    r#type: String,
    name: String,
    value: String,
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let (out, client) = (&context.out, context.client()?);
    match command {
        Command::Ls { app } => list(context, &client.domains(app.as_str())?),
        Command::Add { domain, app } => {
            let answer = client.create_domain(app.as_str(), &domain.to_string())?;
            out.done(&answer, &format!("App {} has claimed {domain}.", app.as_str()))?;
            let claim: Domain = api::read(&answer)?;
            if let Some(Record { r#type, name, value }) = claim.record.filter(|_| !out.is_json()) {
                out.note("To prove that it is yours, make this record where the domain's DNS is kept:\n");
                out.line(&format!(
                    "  {}  {}  {}",
                    visible_line(&name),
                    visible_line(&r#type),
                    visible_line(&value)
                ))?;
                out.note(&format!("\nThen run `pic domains verify {domain} --app {}`.", app.as_str()));
            }
            Ok(())
        }
        Command::Verify { domain, waive, app } => {
            let id = id(&client, app, domain)?;
            let answer = client.verify_domain(app.as_str(), &id, *waive)?;
            out.done(&answer, &format!("{domain} leads to app {} now.", app.as_str()))
        }
        Command::Rm { domain, force, app } => {
            let answer = client.delete_domain(app.as_str(), &id(&client, app, domain)?, *force)?;
            out.done(&answer, &format!("App {} has let go of {domain}.", app.as_str()))
        }
    }
}

fn list(context: &Context, answer: &Value) -> Result<(), Failure> {
    if context.out.is_json() {
        return context.out.json(answer);
    }
    let domains: Page<Domain> = api::read(answer)?;
    let row = |domain: &Domain| {
        let state = match (&domain.verified_by, &domain.record) {
            (Some(how), _) => format!("proven ({how})"),
            (None, Some(Record { r#type, name, value })) => format!("wants {name} {type} {value}"),
            (None, None) => "not proven".to_owned(),
        };
        vec![domain.domain.as_str().into(), state.into()]
    };
    let rows = domains.items.iter().map(row).collect();
    context.out.table(&["DOMAIN", "STATE"], rows, "The app has claimed no domains.")
}

/// People know a claim by its domain.
fn id(client: &Client, app: &AppArg, domain: &HostPattern) -> Result<String, Failure> {
    let domains: Page<Domain> = api::read(&client.domains(app.as_str())?)?;
    let found = domains.items.into_iter().find(|claim| claim.domain == domain.to_string());
    found.map(|claim| claim.id).ok_or_else(|| {
        Failure::Usage(format!(
            "app {} has not claimed {domain}; `pic domains ls` lists its claims",
            app.as_str()
        ))
    })
}
