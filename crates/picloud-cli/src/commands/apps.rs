//! `pic apps`: the tenants of the server.

use shared::name::AppSlug;

use crate::api::{self, App, Page};
use crate::context::Context;
use crate::failure::Failure;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the apps you may see.
    Ls,
    /// Create an app.
    Create {
        slug: AppSlug,
        /// Name for people; the slug when absent.
        #[arg(long)]
        name: Option<String>,
    },
    /// Remove an app.
    Rm {
        slug: AppSlug,
        /// Also when it still has scripts, routes or data: all of it is removed.
        #[arg(long)]
        force: bool,
    },
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let out = &context.out;
    let client = context.client()?;
    match command {
        Command::Ls => {
            let answer = client.apps()?;
            if out.is_json() {
                return out.json(&answer);
            }
            let apps: Page<App> = api::read(&answer)?;
            let row = |app: &App| {
                let address = context.url.app(&app.slug);
                vec![app.slug.as_str().into(), app.name.as_str().into(), address.base.into()]
            };
            let rows = apps.items.iter().map(row).collect();
            out.table(&["APP", "NAME", "ADDRESS"], rows, "There are no apps.")
        }
        Command::Create { slug, name } => {
            let slug = slug.as_str();
            let answer = client.create_app(slug, name.as_deref().unwrap_or(slug))?;
            if out.is_json() {
                return out.json(&answer);
            }
            out.line(&format!("Created app {slug}."))?;
            out.note(&format!("Deploy to it with `pic deploy FILE --app {slug}`."));
            Ok(())
        }
        Command::Rm { slug, force } => {
            let answer = client.delete_app(slug.as_str(), *force)?;
            out.done(&answer, &format!("Removed app {slug}."))
        }
    }
}
