//! `pic docs`: the documents that an app's scripts keep.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{self, Page};
use crate::client::segment;
use crate::commands::{doc_indexes, doc_schemas};
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
    /// List the documents of a collection that a filter finds.
    Ls {
        collection: String,
        /// As in scripts, as JSON: `{"age": {"$gte": 18}}`.
        #[arg(long)]
        filter: Option<JsonArg>,
        /// A member to sort by, with `-` in front for the greatest first.
        #[arg(long, allow_hyphen_values = true)]
        sort: Option<String>,
        /// Most documents to show.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        app: AppArg,
    },
    /// Show a document.
    Get {
        collection: String,
        id: String,
        #[command(flatten)]
        app: AppArg,
    },
    /// Make a document.
    Create {
        collection: String,
        /// A JSON object.
        data: JsonArg,
        #[command(flatten)]
        app: AppArg,
    },
    /// Replace a document's data.
    Set {
        collection: String,
        id: String,
        /// A JSON object.
        data: JsonArg,
        #[command(flatten)]
        app: AppArg,
    },
    /// Set members of a document; those that are null are removed.
    Patch {
        collection: String,
        id: String,
        /// A JSON object.
        data: JsonArg,
        #[command(flatten)]
        app: AppArg,
    },
    /// List, declare and remove indexes.
    #[command(subcommand)]
    Index(doc_indexes::Command),
    /// List, set and remove what documents must be like.
    #[command(subcommand)]
    Schema(doc_schemas::Command),
    /// Remove a document.
    Rm {
        collection: String,
        id: String,
        #[command(flatten)]
        app: AppArg,
    },
}

#[derive(Debug, Deserialize)]
struct Collection {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Document {
    id: String,
    data: Value,
    updated_at: String,
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let (out, client) = (&context.out, context.client()?);
    match command {
        Command::Collections { app } => {
            let answer = client.list(&format!("/apps/{}/docs", app.as_str()), &[], usize::MAX)?;
            if out.is_json() {
                return out.json(&answer);
            }
            let found: Page<Collection> = api::read(&answer)?;
            let rows = found.items.into_iter().map(|collection| vec![collection.name.into()]).collect();
            out.table(&["COLLECTION"], rows, "The app's scripts keep no documents.")
        }
        Command::Ls { collection, filter, sort, limit, app } => {
            let filter = filter.as_ref().map(|filter| filter.0.to_string());
            let given = [("filter", filter.as_deref()), ("sort", sort.as_deref())];
            let query: Vec<_> = given.iter().filter_map(|(name, value)| Some((*name, (*value)?))).collect();
            let answer = client.list(&path(app, collection), &query, *limit)?;
            if out.is_json() {
                return out.json(&answer);
            }
            let found: Page<Document> = api::read(&answer)?;
            let row = |document: Document| {
                vec![document.id.into(), document.updated_at.into(), document.data.to_string().into()]
            };
            let rows = found.items.into_iter().map(row).collect();
            out.table(&["ID", "UPDATED", "DATA"], rows, "There are no such documents.")
        }
        Command::Get { collection, id, app } => {
            let answer = client.get(&one(app, collection, id))?;
            if out.is_json() {
                return out.json(&answer);
            }
            out.json(&answer["data"])
        }
        Command::Create { collection, data, app } => {
            let answer = client.post(&path(app, collection), &json!({ "data": data.0 }))?;
            out.done(&answer, &format!("Made {}.", answer["id"].as_str().unwrap_or_default()))
        }
        Command::Set { collection, id, data, app } => {
            let answer = client.put(&one(app, collection, id), &json!({ "data": data.0 }))?;
            out.done(&answer, &format!("Replaced {id}."))
        }
        Command::Patch { collection, id, data, app } => {
            let answer = client.patch(&one(app, collection, id), &json!({ "data": data.0 }))?;
            out.done(&answer, &format!("Changed {id}."))
        }
        Command::Index(command) => doc_indexes::run(context, command),
        Command::Schema(command) => doc_schemas::run(context, command),
        Command::Rm { collection, id, app } => {
            let answer = client.delete(&one(app, collection, id))?;
            out.done(&answer, &format!("Removed {id}."))
        }
    }
}

fn path(app: &AppArg, collection: &str) -> String {
    format!("/apps/{}/docs/{}", app.as_str(), segment(collection))
}

fn one(app: &AppArg, collection: &str, id: &str) -> String {
    format!("{}/{}", path(app, collection), segment(id))
}
