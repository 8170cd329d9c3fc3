//! `pic keys`: API keys, for programs that cannot log in.

use serde::Deserialize;
use serde_json::{Value, json};
use shared::name::AppSlug;

use crate::api::{self, Page};
use crate::commands::show;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::visible_line;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List your API keys.
    Ls,
    /// Make a key. It is shown once.
    Create {
        /// What the key is for.
        name: String,
        /// What it may be used for; several times if need be.
        #[arg(long = "scope", required = true, value_parser = SCOPES)]
        scopes: Vec<String>,
        /// The only app it is good for; all of yours when absent.
        #[arg(long)]
        app: Option<AppSlug>,
        /// Days until it ends; never when absent.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: Option<u32>,
    },
    /// Remove a key. Programs that use it are refused from then on.
    Rm {
        /// As `pic keys ls` shows it.
        id: String,
    },
}

const SCOPES: [&str; 7] =
    ["app:read", "app:write", "script:invoke", "data:read", "data:write", "app:admin", "instance:admin"];
const SECONDS_PER_DAY: u32 = 86_400;

#[derive(Debug, Deserialize)]
struct Key {
    id: String,
    name: String,
    #[serde(default)]
    hint: String,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    expires_at: Value,
    #[serde(default)]
    last_used_at: Value,
}

#[derive(Debug, Deserialize)]
struct KeyOnce {
    key: String,
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let (out, client) = (&context.out, context.client()?);
    match command {
        Command::Ls => {
            let answer = client.keys()?;
            if out.is_json() {
                return out.json(&answer);
            }
            let keys: Page<Key> = api::read(&answer)?;
            let row = |key: &Key| {
                let (expires, used) = (show::time(&key.expires_at), show::time(&key.last_used_at));
                let text = |text: &str| visible_line(text).into();
                vec![
                    text(&key.name),
                    format!("{}…", key.hint).into(),
                    key.scopes.join(" ").into(),
                    expires.into(),
                    used.into(),
                    text(&key.id),
                ]
            };
            let rows = keys.items.iter().map(row).collect();
            out.table(&["NAME", "KEY", "SCOPES", "ENDS", "LAST USED", "ID"], rows, "You have no API keys.")
        }
        Command::Create { name, scopes, app, days } => {
            let mut body = json!({ "name": name, "scopes": scopes });
            if let Some(app) = app {
                body["app"] = app.as_str().into();
            }
            if let Some(days) = days {
                body["expires_in_s"] = days.saturating_mul(SECONDS_PER_DAY).into();
            }
            let answer = client.create_key(&body)?;
            if out.is_json() {
                return out.json(&answer);
            }
            let KeyOnce { key } = api::read(&answer)?;
            out.line(&visible_line(&key))?;
            out.note("This is the only time the key is shown. Programs use it as PICLOUD_TOKEN.");
            Ok(())
        }
        Command::Rm { id } => {
            let answer = client.delete_key(id)?;
            out.done(&answer, &format!("Removed key {id}."))
        }
    }
}
