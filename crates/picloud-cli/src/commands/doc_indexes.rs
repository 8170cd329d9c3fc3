//! `pic docs index`: indexes of the documents that an app's scripts keep.

use serde::Deserialize;
use serde_json::json;

use crate::api::{self, Page};
use crate::client::segment;
use crate::context::{AppArg, Context};
use crate::failure::Failure;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the indexes of an app, and what has become of them.
    Ls {
        #[command(flatten)]
        app: AppArg,
    },
    /// Index the documents of a collection by one to four members.
    Add {
        collection: String,
        /// Such as `status` or `customer.city`, the first first.
        #[arg(required = true)]
        members: Vec<String>,
        #[command(flatten)]
        app: AppArg,
    },
    /// Remove an index.
    Rm {
        id: String,
        #[command(flatten)]
        app: AppArg,
    },
}

#[derive(Debug, Deserialize)]
struct Index {
    id: String,
    collection: String,
    members: Vec<String>,
    state: String,
    error: Option<String>,
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let (out, client) = (&context.out, context.client()?);
    match command {
        Command::Ls { app } => {
            let answer = client.list(&path(app), &[], usize::MAX)?;
            if out.is_json() {
                return out.json(&answer);
            }
            let found: Page<Index> = api::read(&answer)?;
            let row = |index: Index| {
                let state = index.error.map_or(index.state, |error| format!("failed: {error}"));
                vec![index.id.into(), index.collection.into(), index.members.join(", ").into(), state.into()]
            };
            let rows = found.items.into_iter().map(row).collect();
            out.table(&["ID", "COLLECTION", "MEMBERS", "STATE"], rows, "The app's documents have no indexes.")
        }
        Command::Add { collection, members, app } => {
            let body = json!({ "collection": collection, "members": members });
            let answer = client.post(&path(app), &body)?;
            let id = answer["id"].as_str().unwrap_or_default();
            out.done(
                &answer,
                &format!("Index {id} is being built; `pic docs index ls` says when it is ready."),
            )
        }
        Command::Rm { id, app } => {
            let answer = client.delete(&format!("{}/{}", path(app), segment(id)))?;
            out.done(&answer, &format!("Removed index {id}."))
        }
    }
}

fn path(app: &AppArg) -> String {
    format!("/apps/{}/doc-indexes", app.as_str())
}
