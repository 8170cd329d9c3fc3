//! `pic assets`: static files that an app serves beside its routes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use shared::limits::ASSET_BYTES_MAX;

use crate::api::{self, Page};
use crate::context::{AppArg, Context};
use crate::failure::Failure;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the files of an app.
    Ls {
        #[command(flatten)]
        app: AppArg,
    },
    /// Upload the files of a folder, and of the folders in it.
    Push {
        folder: PathBuf,
        /// Also remove files of the app that are not in the folder.
        #[arg(long)]
        delete: bool,
        #[command(flatten)]
        app: AppArg,
    },
    /// Remove a file.
    Rm {
        /// As in its address: `/css/site.css`.
        path: String,
        #[command(flatten)]
        app: AppArg,
    },
}

#[derive(Debug, Deserialize)]
struct Asset {
    path: String,
    content_type: String,
    bytes: u64,
    #[serde(default)]
    is_changed: bool,
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let (out, client) = (&context.out, context.client()?);
    match command {
        Command::Ls { app } => {
            let answer = client.assets(app.as_str())?;
            if out.is_json() {
                return out.json(&answer);
            }
            let assets: Page<Asset> = api::read(&answer)?;
            let row = |asset: &Asset| {
                vec![
                    asset.path.as_str().into(),
                    asset.content_type.as_str().into(),
                    asset.bytes.to_string().into(),
                ]
            };
            let rows = assets.items.iter().map(row).collect();
            out.table(&["PATH", "TYPE", "BYTES"], rows, "The app has no static files.")
        }
        Command::Push { folder, delete, app } => push(context, folder, *delete, app),
        Command::Rm { path, app } => {
            let answer = client.delete_asset(app.as_str(), path)?;
            out.done(&answer, &format!("Removed {path} from app {}.", app.as_str()))
        }
    }
}

fn push(context: &Context, folder: &Path, delete: bool, app: &AppArg) -> Result<(), Failure> {
    let (out, client) = (&context.out, context.client()?);
    let mut files = Vec::new();
    walk(folder, "", &mut files)?;
    let mut changed = 0;
    for (path, file) in &files {
        let content = fs::read(file).map_err(|source| Failure::File { path: file.clone(), source })?;
        if content.len() > ASSET_BYTES_MAX {
            let limit = ASSET_BYTES_MAX >> 20;
            return Err(Failure::Source(format!(
                "{} is over the limit of {limit} MiB for a file",
                file.display()
            )));
        }
        let asset: Asset = api::read(&client.put_asset(app.as_str(), path, &content)?)?;
        changed += usize::from(asset.is_changed);
    }
    let mut removed = 0;
    if delete {
        let kept: BTreeSet<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
        let there: Page<Asset> = api::read(&client.assets(app.as_str())?)?;
        for asset in there.items.iter().filter(|asset| !kept.contains(asset.path.as_str())) {
            client.delete_asset(app.as_str(), &asset.path)?;
            removed += 1;
        }
    }
    let answer: Value = json!({ "files": files.len(), "changed": changed, "removed": removed });
    let count = files.len();
    out.done(&answer, &format!("{count} files, {changed} of them new or changed; {removed} removed."))
}

/// Files below a folder with the paths at which they are served. Hidden ones are nobody's business,
/// and links may lead out of the folder.
fn walk(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> Result<(), Failure> {
    let failed = |source| Failure::File { path: folder.to_owned(), source };
    let mut entries: Vec<_> =
        fs::read_dir(folder).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| {
            Failure::Source(format!("{} has a name that is no text", entry.path().display()))
        })?;
        let kind = entry.file_type().map_err(failed)?;
        if name.starts_with('.') {
            continue;
        }
        let path = format!("{prefix}/{name}");
        if kind.is_dir() {
            walk(&entry.path(), &path, files)?;
        } else if kind.is_file() {
            files.push((path, entry.path()));
        }
    }
    Ok(())
}
