//! `pic docs schema`: what the documents of a collection must be like.

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{self, Page};
use crate::client::segment;
use crate::context::{AppArg, Context};
use crate::failure::Failure;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the schemas of an app.
    Ls {
        #[command(flatten)]
        app: AppArg,
    },
    /// Say what the documents of a collection must be like.
    Set {
        collection: String,
        /// A file with JSON Schema, 2020-12.
        file: PathBuf,
        #[command(flatten)]
        app: AppArg,
    },
    /// Let a collection take any document again.
    Rm {
        collection: String,
        #[command(flatten)]
        app: AppArg,
    },
}

#[derive(Debug, Deserialize)]
struct Schema {
    collection: String,
    schema: Value,
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let (out, client) = (&context.out, context.client()?);
    match command {
        Command::Ls { app } => {
            let answer = client.list(&format!("/apps/{}/doc-schemas", app.as_str()), &[], usize::MAX)?;
            if out.is_json() {
                return out.json(&answer);
            }
            let found: Page<Schema> = api::read(&answer)?;
            let row = |schema: Schema| vec![schema.collection.into(), schema.schema.to_string().into()];
            let rows = found.items.into_iter().map(row).collect();
            out.table(&["COLLECTION", "SCHEMA"], rows, "The app's collections take any document.")
        }
        Command::Set { collection, file, app } => {
            let text = fs::read(file).map_err(|source| Failure::File { path: file.clone(), source })?;
            let schema: Value = serde_json::from_slice(&text)
                .map_err(|error| Failure::Source(format!("{} is no JSON: {error}", file.display())))?;
            let answer = client.put(&path(app, collection), &json!({ "schema": schema }))?;
            out.done(&answer, &format!("Documents of {collection} must fit the schema from now on."))
        }
        Command::Rm { collection, app } => {
            let answer = client.delete(&path(app, collection))?;
            out.done(&answer, &format!("{collection} takes any document."))
        }
    }
}

fn path(app: &AppArg, collection: &str) -> String {
    format!("/apps/{}/doc-schemas/{}", app.as_str(), segment(collection))
}
