//! `pic users`: the users that an app has of its own. Accounts are made by the app's scripts.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::id::AppUserId;

use crate::api::{self, Page};
use crate::client::{Client, segment};
use crate::commands::show;
use crate::context::{AppArg, Context};
use crate::failure::Failure;
use crate::output::{Output, TableCell, Tone, visible_line};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the users of an app.
    Ls {
        /// How many at most, in the order in which they came.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        #[command(flatten)]
        app: AppArg,
    },
    /// Show a user, with what the app keeps of them.
    Get {
        #[command(flatten)]
        user: UserArg,
    },
    /// Say that messages reach a user, or what roles they have.
    Set {
        #[command(flatten)]
        user: UserArg,
        #[arg(long, value_name = "BOOL")]
        verified: Option<bool>,
        /// Role that they have from now on, and none that is not named; may be given several times.
        #[arg(long = "role", value_name = "ROLE", conflicts_with = "no_roles")]
        roles: Vec<String>,
        /// Take all their roles away.
        #[arg(long)]
        no_roles: bool,
    },
    /// Let a user log in again.
    Enable {
        #[command(flatten)]
        user: UserArg,
    },
    /// End every session of a user, and let them begin none.
    Disable {
        #[command(flatten)]
        user: UserArg,
    },
    /// End every session of a user.
    Logout {
        #[command(flatten)]
        user: UserArg,
    },
    /// Remove a user.
    Rm {
        #[command(flatten)]
        user: UserArg,
    },
}

/// A user of an app.
#[derive(Debug, clap::Args)]
pub(crate) struct UserArg {
    /// Login or id.
    user: String,
    #[command(flatten)]
    app: AppArg,
}

#[derive(Debug, Deserialize)]
struct User {
    id: String,
    login: String,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    profile: Value,
    #[serde(default)]
    verified_at: Value,
    #[serde(default)]
    disabled_at: Value,
    #[serde(default)]
    created_at: Value,
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let (out, client) = (&context.out, context.client()?);
    match command {
        Command::Ls { limit, app } => {
            let limit = usize::try_from(*limit).unwrap_or(usize::MAX);
            list(out, &client.list(&format!("/apps/{}/users", app.as_str()), &[], limit)?)
        }
        Command::Get { user } => show_one(out, &client.get(&user.path(&client)?)?),
        Command::Set { user, verified, roles, no_roles } => {
            let change = change(*verified, roles, *no_roles)?;
            let answer = client.patch(&user.path(&client)?, &change)?;
            out.done(&answer, &format!("Changed {}.", user.user))
        }
        Command::Enable { user } => {
            let answer = client.patch(&user.path(&client)?, &json!({ "disabled": false }))?;
            out.done(&answer, &format!("{} may log in again.", user.user))
        }
        Command::Disable { user } => {
            let answer = client.patch(&user.path(&client)?, &json!({ "disabled": true }))?;
            out.done(&answer, &format!("{} is logged out and may not log in.", user.user))
        }
        Command::Logout { user } => {
            let path = format!("{}:end-sessions", user.path(&client)?);
            let answer = client.post(&path, &json!({}))?;
            out.done(
                &answer,
                &format!("Ended every session of {}; there were {}.", user.user, answer["count"]),
            )
        }
        Command::Rm { user } => {
            let answer = client.delete(&user.path(&client)?)?;
            out.done(&answer, &format!("Removed {} from app {}.", user.user, user.app.as_str()))
        }
    }
}

impl UserArg {
    /// Where the user is. One that is not found by login is left to the server to miss.
    fn path(&self, client: &Client) -> Result<String, Failure> {
        let users = format!("/apps/{}/users", self.app.as_str());
        let mut id = self.user.clone();
        if id.parse::<AppUserId>().is_err() {
            let found: Page<User> = api::read(&client.list(&users, &[("login", &id)], 1)?)?;
            if let Some(user) = found.items.into_iter().next() {
                id = user.id;
            }
        }
        Ok(format!("{users}/{}", segment(&id)))
    }
}

fn change(verified: Option<bool>, roles: &[String], no_roles: bool) -> Result<Value, Failure> {
    let mut change = Map::new();
    if let Some(verified) = verified {
        change.insert("verified".to_owned(), verified.into());
    }
    if no_roles || !roles.is_empty() {
        change.insert("roles".to_owned(), roles.into());
    }
    if change.is_empty() {
        return Err(Failure::Usage("say what to change: --verified, --role or --no-roles".to_owned()));
    }
    Ok(Value::Object(change))
}

fn list(out: &Output, answer: &Value) -> Result<(), Failure> {
    if out.is_json() {
        return out.json(answer);
    }
    let users: Page<User> = api::read(answer)?;
    let row = |user: &User| -> Vec<TableCell> {
        let roles = user.roles.join(", ");
        vec![
            user.login.as_str().into(),
            state(user),
            roles.into(),
            show::time(&user.created_at).into(),
            user.id.as_str().into(),
        ]
    };
    let rows = users.items.iter().map(row).collect();
    out.table(&["LOGIN", "STATE", "ROLES", "SINCE", "ID"], rows, "The app has no users.")
}

fn state(user: &User) -> TableCell {
    match (user.disabled_at.is_null(), user.verified_at.is_null()) {
        (false, _) => TableCell::toned("disabled", Tone::Bad),
        (true, false) => TableCell::toned("verified", Tone::Good),
        (true, true) => "".into(),
    }
}

fn show_one(out: &Output, answer: &Value) -> Result<(), Failure> {
    if out.is_json() {
        return out.json(answer);
    }
    let user: User = api::read(answer)?;
    for (name, value) in [
        ("login", user.login),
        ("id", user.id),
        ("roles", user.roles.join(", ")),
        ("verified", show::time(&user.verified_at)),
        ("disabled", show::time(&user.disabled_at)),
        ("since", show::time(&user.created_at)),
        ("profile", user.profile.to_string()),
    ] {
        out.line(visible_line(&format!("{name:<9} {value}")).trim_end())?;
    }
    Ok(())
}
