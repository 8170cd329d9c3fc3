//! `pic files`: the files that an app's scripts keep.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use ureq::http::Method;

use crate::api::{self, Page};
use crate::client::segment;
use crate::context::{AppArg, Context};
use crate::failure::Failure;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the collections of an app.
    Collections {
        #[command(flatten)]
        app: AppArg,
    },
    /// List the files of a collection.
    Ls {
        collection: String,
        #[command(flatten)]
        app: AppArg,
    },
    /// Show what is known of a file.
    Show {
        collection: String,
        id: String,
        #[command(flatten)]
        app: AppArg,
    },
    /// Write a file's content to standard output, or to a file here.
    Get {
        collection: String,
        id: String,
        /// Where to write it; an existing file is replaced.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        #[command(flatten)]
        app: AppArg,
    },
    /// Upload a file: a new one, or the new content of one that there is.
    Put(Put),
    /// Remove a file.
    Rm {
        collection: String,
        id: String,
        #[command(flatten)]
        app: AppArg,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Put {
    collection: String,
    file: PathBuf,
    /// The file whose content is replaced.
    #[arg(long)]
    id: Option<String>,
    /// What it is called; its name here unless given.
    #[arg(long)]
    name: Option<String>,
    /// Its media type, such as `image/png`; told by the name unless given.
    #[arg(long = "type", value_name = "TYPE")]
    content_type: Option<String>,
    #[command(flatten)]
    app: AppArg,
}

#[derive(Debug, Deserialize)]
struct Collection {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Stored {
    id: String,
    name: String,
    content_type: String,
    size: u64,
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let (out, client) = (&context.out, context.client()?);
    match command {
        Command::Collections { app } => {
            let answer = client.list(&format!("/apps/{}/files", app.as_str()), &[], usize::MAX)?;
            if out.is_json() {
                return out.json(&answer);
            }
            let found: Page<Collection> = api::read(&answer)?;
            let rows = found.items.into_iter().map(|collection| vec![collection.name.into()]).collect();
            out.table(&["COLLECTION"], rows, "The app's scripts keep no files.")
        }
        Command::Ls { collection, app } => {
            let answer = client.list(&path(app, collection), &[], usize::MAX)?;
            if out.is_json() {
                return out.json(&answer);
            }
            let found: Page<Stored> = api::read(&answer)?;
            let row = |file: Stored| {
                vec![file.id.into(), file.name.into(), file.content_type.into(), file.size.to_string().into()]
            };
            let rows = found.items.into_iter().map(row).collect();
            out.table(&["ID", "NAME", "TYPE", "BYTES"], rows, "There are no such files.")
        }
        Command::Show { collection, id, app } => out.json(&client.get(&one(app, collection, id))?),
        Command::Get { collection, id, to, app } => {
            let path = format!("{}/content", one(app, collection, id));
            match to {
                Some(to) => {
                    let mut file = File::create(to).map_err(|source| unusable(to, source))?;
                    client.download(&path, &mut file).map(drop)
                }
                None => client.download(&path, &mut io::stdout().lock()).map(drop),
            }
        }
        Command::Put(what) => put(context, what),
        Command::Rm { collection, id, app } => {
            let answer = client.delete(&one(app, collection, id))?;
            out.done(&answer, &format!("Removed {collection}/{id}."))
        }
    }
}

fn put(context: &Context, what: &Put) -> Result<(), Failure> {
    let Put { collection, file, id, name, content_type, app } = what;
    let content = File::open(file).map_err(|source| unusable(file, source))?;
    let (method, path) = match id {
        Some(id) => (Method::PUT, one(app, collection, id)),
        None => (Method::POST, path(app, collection)),
    };
    // A file that there is keeps its name unless it gets another.
    let own_name = file.file_name().filter(|_| id.is_none());
    let name = name.clone().or_else(|| own_name.map(|name| name.to_string_lossy().into_owned()));
    let query = name.map(|name| format!("?name={}", segment(&name))).unwrap_or_default();
    let client = context.client()?;
    let answer = client.upload(method, &format!("{path}{query}"), content_type.as_deref(), &content)?;
    let (id, size) = (answer["id"].as_str().unwrap_or_default(), &answer["size"]);
    context.out.done(&answer, &format!("Uploaded {collection}/{id}, {size} bytes."))
}

fn unusable(path: &Path, source: io::Error) -> Failure {
    Failure::File { path: path.to_owned(), source }
}

fn path(app: &AppArg, collection: &str) -> String {
    format!("/apps/{}/files/{}", app.as_str(), segment(collection))
}

fn one(app: &AppArg, collection: &str, id: &str) -> String {
    format!("{}/{}", path(app, collection), segment(id))
}
