//! What every command works with: the output, the server, the login.

use shared::name::AppSlug;

use crate::client::Client;
use crate::config;
use crate::credentials::Credentials;
use crate::failure::Failure;
use crate::output::Output;
use crate::server_url::{self, ServerUrl};

pub(crate) struct Context {
    pub(crate) out: Output,
    pub(crate) url: ServerUrl,
    pub(crate) credentials: Credentials,
}

/// The app a command is about.
#[derive(Debug, clap::Args)]
pub(crate) struct AppArg {
    /// App the command is about.
    #[arg(long, env = "PICLOUD_APP", default_value = "default", value_name = "APP")]
    app: AppSlug,
}

impl Context {
    /// The server is the one named, else the one last logged in to, else the one on this machine.
    pub(crate) fn new(out: Output, named: Option<ServerUrl>) -> Result<Self, Failure> {
        let credentials = Credentials::load()?;
        let url = match (named, &credentials.current) {
            (Some(url), _) => url,
            (None, Some(current)) => parse(current)?,
            (None, None) => parse(server_url::DEFAULT)?,
        };
        Ok(Self { out, url, credentials })
    }

    /// A client that is logged in.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let stored = || self.credentials.token(self.url.as_str()).map(ToOwned::to_owned);
        match config::token().or_else(stored) {
            Some(token) => Ok(Client::new(self.url.clone(), Some(token))),
            None => Err(Failure::NotLoggedIn { url: self.url.to_string() }),
        }
    }
}

impl AppArg {
    pub(crate) fn as_str(&self) -> &str {
        self.app.as_str()
    }
}

fn parse(text: &str) -> Result<ServerUrl, Failure> {
    text.parse().map_err(|error| Failure::Usage(format!("{text}: {error}")))
}
