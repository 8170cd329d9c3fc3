//! `pic kv`: the values that an app's scripts keep.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{self, Page};
use crate::client::segment;
use crate::context::{AppArg, Context};
use crate::failure::Failure;
use crate::json_arg::JsonArg;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the collections of an app.
    Collections {
        #[command(flatten)]
        app: AppArg,
    },
    /// List the values of a collection.
    Ls {
        collection: String,
        /// Only keys that begin with this.
        #[arg(long, default_value = "")]
        prefix: String,
        #[command(flatten)]
        app: AppArg,
    },
    /// Show a value.
    Get {
        collection: String,
        key: String,
        #[command(flatten)]
        app: AppArg,
    },
    /// Write a value.
    Set {
        collection: String,
        key: String,
        /// JSON, such as `1`, `"text"` or `{"a": [1, 2]}`.
        value: JsonArg,
        /// For how many seconds it is there; for good unless given.
        #[arg(long)]
        ttl: Option<u32>,
        /// Write only if the value is of this version.
        #[arg(long)]
        if_version: Option<u64>,
        #[command(flatten)]
        app: AppArg,
    },
    /// Remove a value.
    Rm {
        collection: String,
        key: String,
        #[command(flatten)]
        app: AppArg,
    },
}

#[derive(Debug, Deserialize)]
struct Collection {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Entry {
    key: String,
    value: Value,
    version: u64,
    expires_at: Option<String>,
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let (out, client) = (&context.out, context.client()?);
    match command {
        Command::Collections { app } => {
            let answer = client.list(&format!("/apps/{}/kv", app.as_str()), &[], usize::MAX)?;
            if out.is_json() {
                return out.json(&answer);
            }
            let found: Page<Collection> = api::read(&answer)?;
            let rows = found.items.into_iter().map(|collection| vec![collection.name.into()]).collect();
            out.table(&["COLLECTION"], rows, "The app's scripts keep no values.")
        }
        Command::Ls { collection, prefix, app } => {
            let path = format!("/apps/{}/kv/{}", app.as_str(), segment(collection));
            let answer = client.list(&path, &[("prefix", prefix)], usize::MAX)?;
            if out.is_json() {
                return out.json(&answer);
            }
            let found: Page<Entry> = api::read(&answer)?;
            let row = |entry: Entry| {
                let expires = entry.expires_at.unwrap_or_default();
                let (version, value) = (entry.version.to_string(), entry.value.to_string());
                vec![entry.key.into(), version.into(), expires.into(), value.into()]
            };
            let rows = found.items.into_iter().map(row).collect();
            out.table(&["KEY", "VERSION", "EXPIRES", "VALUE"], rows, "There are no such values.")
        }
        Command::Get { collection, key, app } => {
            let answer = client.get(&path(app, collection, key))?;
            if out.is_json() {
                return out.json(&answer);
            }
            out.json(&answer["value"])
        }
        Command::Set { collection, key, value, ttl, if_version, app } => {
            let body = json!({ "value": value.0, "ttl": ttl, "if_version": if_version });
            let answer = client.put(&path(app, collection, key), &body)?;
            out.done(&answer, &format!("Wrote {collection}/{key}, version {}.", answer["version"]))
        }
        Command::Rm { collection, key, app } => {
            let answer = client.delete(&path(app, collection, key))?;
            out.done(&answer, &format!("Removed {collection}/{key}."))
        }
    }
}

fn path(app: &AppArg, collection: &str, key: &str) -> String {
    format!("/apps/{}/kv/{}/{}", app.as_str(), segment(collection), segment(key))
}
