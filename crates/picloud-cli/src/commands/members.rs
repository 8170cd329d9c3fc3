//! `pic members`: who may do what on an app.

use serde::Deserialize;

use crate::api::{self, Page};
use crate::context::{AppArg, Context};
use crate::failure::Failure;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the members of an app.
    Ls {
        #[command(flatten)]
        app: AppArg,
    },
    /// Let somebody in.
    Add {
        /// User name.
        user: String,
        #[arg(value_parser = ROLES)]
        role: String,
        #[command(flatten)]
        app: AppArg,
    },
    /// Give a member another role.
    Set {
        user: String,
        #[arg(value_parser = ROLES)]
        role: String,
        #[command(flatten)]
        app: AppArg,
    },
    /// Make a member none any more.
    Rm {
        user: String,
        #[command(flatten)]
        app: AppArg,
    },
}

const ROLES: [&str; 3] = ["viewer", "editor", "app_admin"];

#[derive(Debug, Deserialize)]
struct Member {
    username: String,
    role: String,
    #[serde(default)]
    is_owner: bool,
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let (out, client) = (&context.out, context.client()?);
    match command {
        Command::Ls { app } => {
            let answer = client.members(app.as_str())?;
            if out.is_json() {
                return out.json(&answer);
            }
            let members: Page<Member> = api::read(&answer)?;
            let row = |member: &Member| {
                let owner = if member.is_owner { "owner" } else { "" };
                vec![member.username.as_str().into(), member.role.as_str().into(), owner.into()]
            };
            let rows = members.items.iter().map(row).collect();
            out.table(&["USER", "ROLE", ""], rows, "The app has no members.")
        }
        Command::Add { user, role, app } => {
            let answer = client.add_member(app.as_str(), user, role)?;
            out.done(&answer, &format!("{user} is {role} of app {}.", app.as_str()))
        }
        Command::Set { user, role, app } => {
            let answer = client.set_member(app.as_str(), user, role)?;
            out.done(&answer, &format!("{user} is {role} of app {}.", app.as_str()))
        }
        Command::Rm { user, app } => {
            let answer = client.delete_member(app.as_str(), user)?;
            out.done(&answer, &format!("{user} is no member of app {} any more.", app.as_str()))
        }
    }
}
