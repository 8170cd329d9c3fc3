//! `pic secrets`: values that scripts use and nobody reads back.

use std::io::{self, IsTerminal, Read};

use serde::Deserialize;
use serde_json::{Value, json};
use shared::name::SecretName;
use ureq::http::Method;

use crate::api::{self, Page};
use crate::client::{Client, segment};
use crate::commands::show;
use crate::context::{AppArg, Context};
use crate::failure::Failure;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the names of an app's secrets.
    Ls {
        #[command(flatten)]
        app: AppArg,
    },
    /// Set a secret. Its value is asked for, or read from standard input: arguments are seen by others.
    Set {
        name: SecretName,
        #[command(flatten)]
        app: AppArg,
    },
    /// Remove a secret.
    Rm {
        name: SecretName,
        #[command(flatten)]
        app: AppArg,
    },
    /// Seal an app's secrets with a new key.
    RotateKey {
        #[command(flatten)]
        app: AppArg,
    },
    /// Wrap the keys of all apps with another secret key; for owners of the instance.
    RotateMaster {
        /// Read the new key (32 bytes in base64) from standard input: for a server with `PICLOUD_SECRET_KEY`.
        #[arg(long)]
        key_stdin: bool,
    },
}

#[derive(Debug, Deserialize)]
struct Secret {
    name: String,
    updated_at: Value,
}

#[derive(Debug, Deserialize)]
struct Rotated {
    count: u64,
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let (out, client) = (&context.out, context.client()?);
    match command {
        Command::Ls { app } => list(context, &client.secrets(app.as_str())?),
        Command::Set { name, app } => {
            let answer = client.put_secret(app.as_str(), name.as_str(), &value(context)?)?;
            out.done(&answer, &format!("Set {name} of app {}.", app.as_str()))
        }
        Command::Rm { name, app } => {
            let answer = client.delete_secret(app.as_str(), name.as_str())?;
            out.done(&answer, &format!("Removed {name} from app {}.", app.as_str()))
        }
        Command::RotateKey { app } => {
            let answer = client.rotate_app_key(app.as_str())?;
            let Rotated { count } = api::read(&answer)?;
            out.done(&answer, &format!("Sealed {count} values of app {} with a new key.", app.as_str()))
        }
        Command::RotateMaster { key_stdin } => {
            let key = if *key_stdin { Some(from_stdin()?) } else { None };
            let answer = client.rotate_master_key(key.as_deref())?;
            let Rotated { count } = api::read(&answer)?;
            out.done(&answer, &format!("Wrapped the keys of all apps ({count}) with another secret key."))
        }
    }
}

fn list(context: &Context, answer: &Value) -> Result<(), Failure> {
    if context.out.is_json() {
        return context.out.json(answer);
    }
    let secrets: Page<Secret> = api::read(answer)?;
    let row = |secret: &Secret| vec![secret.name.as_str().into(), show::time(&secret.updated_at).into()];
    let rows = secrets.items.iter().map(row).collect();
    context.out.table(&["SECRET", "SET"], rows, "The app has no secrets.")
}

fn value(context: &Context) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        return from_stdin();
    }
    context.out.prompt("Value: ");
    rpassword::read_password().map_err(unreadable)
}

/// All of it, without the line end that `echo` adds.
fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin().lock().read_to_string(&mut text).map_err(unreadable)?;
    let end = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(&text).len();
    text.truncate(end);
    Ok(text)
}

fn unreadable(source: io::Error) -> Failure {
    Failure::File { path: "standard input".into(), source }
}

impl Client {
    fn secrets(&self, app: &str) -> Result<Value, Failure> {
        self.list(&format!("/apps/{app}/secrets"), &[], usize::MAX)
    }

    fn put_secret(&self, app: &str, name: &str, value: &str) -> Result<Value, Failure> {
        let path = format!("/apps/{app}/secrets/{}", segment(name));
        self.send(Method::PUT, &path, &json!({ "value": value }))
    }

    fn delete_secret(&self, app: &str, name: &str) -> Result<Value, Failure> {
        self.delete(&format!("/apps/{app}/secrets/{}", segment(name)))
    }

    fn rotate_app_key(&self, app: &str) -> Result<Value, Failure> {
        self.post(&format!("/apps/{app}/secrets:rotate-key"), &json!({}))
    }

    fn rotate_master_key(&self, key: Option<&str>) -> Result<Value, Failure> {
        self.post("/system/secrets:rotate-master", &json!({ "key": key }))
    }
}
