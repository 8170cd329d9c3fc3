//! `pic sessions`: where you are logged in.

use serde::Deserialize;
use serde_json::Value;

use crate::api::{self, Page};
use crate::commands::show;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::visible_line;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List your sessions.
    Ls,
    /// End a session, or all but this one.
    Rm {
        /// As `pic sessions ls` shows it.
        #[arg(required_unless_present = "others")]
        id: Option<String>,
        /// Every session but this one.
        #[arg(long, conflicts_with = "id")]
        others: bool,
    },
}

#[derive(Debug, Deserialize)]
struct Session {
    id: String,
    #[serde(default)]
    remote_address: String,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    last_seen_at: Value,
    #[serde(default)]
    is_current: bool,
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let (out, client) = (&context.out, context.client()?);
    match command {
        Command::Ls => {
            let answer = client.sessions()?;
            if out.is_json() {
                return out.json(&answer);
            }
            let sessions: Page<Session> = api::read(&answer)?;
            let row = |session: &Session| {
                vec![
                    show::time(&session.last_seen_at).into(),
                    visible_line(&session.remote_address).into(),
                    visible_line(&session.user_agent).into(),
                    visible_line(&session.id).into(),
                    if session.is_current { "this one" } else { "" }.into(),
                ]
            };
            let rows = sessions.items.iter().map(row).collect();
            out.table(&["LAST SEEN", "FROM", "PROGRAM", "ID", ""], rows, "You have no sessions.")
        }
        Command::Rm { id: Some(id), .. } => {
            let answer = client.end_session(id)?;
            out.done(&answer, &format!("Ended session {id}."))
        }
        Command::Rm { id: None, .. } => {
            let answer = client.end_other_sessions()?;
            out.done(&answer, "Ended every other session.")
        }
    }
}
