//! `pic transfers`: apps that change their owner.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{self, Page};
use crate::client::segment;
use crate::commands::show;
use crate::context::{AppArg, Context};
use crate::failure::Failure;
use crate::output::visible_line;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the apps that are offered to you.
    Ls,
    /// Offer an app to somebody, who owns it when they accept.
    Offer {
        /// User name.
        user: String,
        #[command(flatten)]
        app: AppArg,
    },
    /// Take an offer back.
    Withdraw {
        #[command(flatten)]
        app: AppArg,
    },
    /// Become the owner of an app that is offered to you.
    Accept {
        /// Slug or id, as `pic transfers ls` shows it.
        offered: String,
    },
    /// Refuse an app that is offered to you.
    Decline { offered: String },
    /// Make somebody the owner of an app without asking them; for owners of the instance.
    Assign {
        /// User name.
        user: String,
        #[command(flatten)]
        app: AppArg,
    },
}

#[derive(Debug, Deserialize)]
struct Offer {
    slug: String,
    #[serde(default)]
    name: String,
    offered_by: String,
    #[serde(default)]
    expires_at: Value,
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let (out, client) = (&context.out, context.client()?);
    match command {
        Command::Ls => {
            let answer = client.list("/transfers", &[], usize::MAX)?;
            if out.is_json() {
                return out.json(&answer);
            }
            let offers: Page<Offer> = api::read(&answer)?;
            let row = |offer: &Offer| {
                vec![
                    visible_line(&offer.slug).into(),
                    visible_line(&offer.name).into(),
                    visible_line(&offer.offered_by).into(),
                    show::time(&offer.expires_at).into(),
                ]
            };
            let rows = offers.items.iter().map(row).collect();
            out.table(&["APP", "NAME", "FROM", "UNTIL"], rows, "No app is offered to you.")
        }
        Command::Offer { user, app } => {
            let answer = client.post(&of_app(app, ":transfer"), &json!({ "user": user }))?;
            let accept = format!("it is theirs after: pic transfers accept {}", app.as_str());
            out.done(&answer, &format!("App {} is offered to {user}; {accept}", app.as_str()))
        }
        Command::Withdraw { app } => {
            let answer = client.delete(&of_app(app, "/transfer"))?;
            out.done(&answer, &format!("App {} is offered to nobody.", app.as_str()))
        }
        Command::Accept { offered } => {
            let answer = client.post(&offer(offered, "accept"), &json!({}))?;
            out.done(&answer, &format!("App {offered} is yours."))
        }
        Command::Decline { offered } => {
            let answer = client.post(&offer(offered, "decline"), &json!({}))?;
            out.done(&answer, &format!("App {offered} stays whose it is."))
        }
        Command::Assign { user, app } => {
            let answer = client.post(&of_app(app, ":assign"), &json!({ "user": user }))?;
            out.done(&answer, &format!("App {} belongs to {user}.", app.as_str()))
        }
    }
}

fn of_app(app: &AppArg, what: &str) -> String {
    format!("/apps/{}{what}", app.as_str())
}

fn offer(app: &str, verb: &str) -> String {
    format!("/transfers/{}:{verb}", segment(app))
}
