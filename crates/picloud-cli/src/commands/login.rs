//! `pic login`: a user name and a password for a token, which is kept.

use std::io::{self, BufRead, IsTerminal};

use crate::api::{self, LoggedIn};
use crate::client::Client;
use crate::commands::show;
use crate::config;
use crate::context::Context;
use crate::credentials::Login;
use crate::failure::{Failure, Problem};
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// User to log in as; asked for when absent.
    #[arg(short, long)]
    username: Option<String>,
    /// Read the password from standard input instead of asking for it.
    #[arg(long)]
    password_stdin: bool,
    /// Code from the second factor, or a recovery code; asked for when the account needs one.
    #[arg(long, value_name = "CODE")]
    otp: Option<String>,
}

pub(crate) fn run(mut context: Context, args: Args) -> Result<(), Failure> {
    let out = context.out;
    if context.url.is_readable_by_others() {
        out.warn("the address is http, not https: others on the way can read the password");
    }
    let username = match args.username {
        Some(username) => username,
        None if io::stdin().is_terminal() && !args.password_stdin => ask(&out, "Username: ")?,
        None => return Err(Failure::Usage("name the user with --username".to_owned())),
    };
    let password = password(&out, args.password_stdin)?;
    let client = Client::new(context.url.clone(), None);
    let answer = match client.login(&username, &password, args.otp.as_deref()) {
        Err(Failure::Refused(problem)) if args.otp.is_none() && needs_code(&problem) => {
            client.login(&username, &password, Some(&ask(&out, "Code: ")?))
        }
        answer => answer,
    }?;
    let login: LoggedIn = api::read(&answer)?;
    let url = context.url.to_string();
    context.credentials.servers.insert(url.clone(), Login { username: username.clone(), token: login.token });
    context.credentials.current = Some(url);
    let path = context.credentials.save()?;
    if out.is_json() {
        // Not the server's answer: it holds the token.
        return out.json(&serde_json::json!({
            "url": context.url.as_str(), "username": username, "expires_at": login.expires_at
        }));
    }
    if config::token().is_some() {
        out.warn(&format!("{} is set and is used instead of this login", config::TOKEN));
    }
    out.line(&format!("Logged in to {} as {username}.", context.url))?;
    out.note(&format!("The login is kept in {} until {}.", path.display(), show::time(&login.expires_at)));
    Ok(())
}

/// Whether somebody at a terminal can help.
fn needs_code(problem: &Problem) -> bool {
    problem.code == "second_factor_required" && io::stdin().is_terminal()
}

fn password(out: &Output, is_from_stdin: bool) -> Result<String, Failure> {
    if is_from_stdin {
        return first_line();
    }
    if !io::stdin().is_terminal() {
        let advice = "there is no terminal to ask for the password; use --password-stdin";
        return Err(Failure::Usage(advice.to_owned()));
    }
    out.prompt("Password: ");
    rpassword::read_password().map_err(input_failure)
}

fn ask(out: &Output, prompt: &str) -> Result<String, Failure> {
    out.prompt(prompt);
    first_line()
}

fn first_line() -> Result<String, Failure> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(input_failure)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn input_failure(source: io::Error) -> Failure {
    Failure::File { path: "standard input".into(), source }
}
