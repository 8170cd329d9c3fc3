//! `pic apps`: the tenants of the server.

use serde_json::{Map, Value, json};
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
    /// Give an app another slug; the one it had leads to it until another app takes it.
    Rename { slug: AppSlug, new: AppSlug },
    /// Change what an app is called, or said to be for.
    Set {
        slug: AppSlug,
        /// Name for people.
        #[arg(long, required_unless_present_any = ["description", "require_approval"])]
        name: Option<String>,
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Whether a version that asks for more than the live one waits until an admin approves it.
        #[arg(long, value_name = "true|false")]
        require_approval: Option<bool>,
    },
    /// Remove an app; without --force, says what would be lost.
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
        Command::Rename { slug, new } => {
            let answer = client.update_app(slug.as_str(), &json!({ "slug": new }))?;
            out.done(&answer, &format!("App {slug} is {new} now; its old addresses lead there."))
        }
        Command::Set { slug, name, description, require_approval } => {
            let given = [("name", name), ("description", description)];
            let given = given.into_iter().filter_map(|(field, value)| Some((field, value.as_deref()?)));
            let mut change: Map<String, Value> =
                given.map(|(field, value)| (field.to_owned(), value.into())).collect();
            if let Some(on) = require_approval {
                change.insert("requires_approval".to_owned(), (*on).into());
            }
            let answer = client.update_app(slug.as_str(), &Value::Object(change))?;
            out.done(&answer, &format!("Changed app {slug}."))
        }
        Command::Rm { slug, force } => {
            let answer = client.delete_app(slug.as_str(), *force)?;
            out.done(&answer, &format!("Removed app {slug}."))
        }
    }
}
