//! `pic`: deploys and inspects scripts. Talks to the server over HTTP only and knows nothing of it
//! but the admin API.

#![forbid(unsafe_code)]

mod api;
mod client;
mod commands;
mod compile_error;
mod config;
mod context;
mod credentials;
mod curl;
mod failure;
mod json_arg;
mod manifest;
mod output;
mod progress;
mod server_url;
mod sse;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{
    apply, apps, assets, completions, deploy, docs, domains, egress, executions, files, invoke, keys, kv,
    login, logout, logs, members, modules, plan, queues, rollback, routes, scripts, secrets, sessions,
    transfers, triggers, users, whoami,
};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::server_url::ServerUrl;

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  failed, or the script answered with a status of 400 or more
  2  wrong usage
  3  not logged in, or not allowed
  4  not found
  5  the server cannot be reached or is not available

Environment: PICLOUD_URL, PICLOUD_TOKEN, PICLOUD_APP, NO_COLOR";

/// Deploy Rhai scripts to PiCloud and see what they do.
#[derive(Debug, Parser)]
#[command(name = "pic", version, after_help = AFTER_HELP, arg_required_else_help = true)]
struct Cli {
    /// How results are shown.
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
    /// Server to talk to; else the one last logged in to.
    #[arg(long, global = true, env = "PICLOUD_URL", value_name = "URL")]
    url: Option<ServerUrl>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Log in to a server and remember the login.
    Login(login::Args),
    /// End the login and forget it.
    Logout,
    /// Show who is logged in, and where.
    Whoami,
    /// Deploy a script, and routes to it.
    Deploy(deploy::Args),
    /// Show what it takes for an app to be what a folder says.
    Plan(plan::Args),
    /// Make an app what a folder with a `picloud.toml` says, in one transaction.
    Apply(apply::Args),
    /// Run a script once and show its answer, cost and log.
    Invoke(invoke::Args),
    /// List what ran.
    Executions(executions::Args),
    /// Show what scripts logged.
    Logs(logs::Args),
    /// Make an earlier version of a script the live one.
    Rollback(rollback::Args),
    /// List and remove scripts, list their versions.
    #[command(subcommand)]
    Scripts(scripts::Command),
    /// Show which scripts import which, as a tree.
    Modules(modules::Args),
    /// List, add and remove routes.
    #[command(subcommand)]
    Routes(routes::Command),
    /// List, make, run and remove triggers.
    #[command(subcommand)]
    Triggers(triggers::Command),
    /// See what waits in queues; send, pause, purge.
    #[command(subcommand)]
    Queues(queues::Command),
    /// List, create and remove apps.
    #[command(subcommand)]
    Apps(apps::Command),
    /// List, upload and remove static files of an app.
    #[command(subcommand)]
    Assets(assets::Command),
    /// List, read and change the values that scripts keep.
    #[command(subcommand)]
    Kv(kv::Command),
    /// List, read and change the documents that scripts keep.
    #[command(subcommand)]
    Docs(docs::Command),
    /// List, upload, download and remove the files that scripts keep.
    #[command(subcommand)]
    Files(files::Command),
    /// List, claim, prove and let go of an app's domains.
    #[command(subcommand)]
    Domains(domains::Command),
    /// Show and change where an app's scripts may send requests, and list where they have been.
    #[command(subcommand)]
    Egress(egress::Command),
    /// List, set and remove an app's secrets; change the keys they are sealed with.
    #[command(subcommand)]
    Secrets(secrets::Command),
    /// List and change who may do what on an app.
    #[command(subcommand)]
    Members(members::Command),
    /// See, disable, log out and remove the users of an app's own.
    #[command(subcommand)]
    Users(users::Command),
    /// Offer, accept and decline apps that change their owner.
    #[command(subcommand)]
    Transfers(transfers::Command),
    /// List, make and remove API keys.
    #[command(subcommand)]
    Keys(keys::Command),
    /// List and end your sessions.
    #[command(subcommand)]
    Sessions(sessions::Command),
    /// Print the completion script for a shell.
    Completions(completions::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = Output::new(cli.output);
    match run(cli, out) {
        Err(failure) if !failure.is_closed_pipe() => {
            failure.report(&out);
            failure.exit().into()
        }
        _ => ExitCode::SUCCESS,
    }
}

fn run(cli: Cli, out: Output) -> Result<(), Failure> {
    let context = || Context::new(out, cli.url);
    match cli.command {
        Command::Login(args) => login::run(context()?, args),
        Command::Logout => logout::run(context()?),
        Command::Whoami => whoami::run(&context()?),
        Command::Deploy(args) => deploy::run(&context()?, &args),
        Command::Plan(args) => plan::run(&context()?, &args),
        Command::Apply(args) => apply::run(&context()?, &args),
        Command::Invoke(args) => invoke::run(&context()?, &args),
        Command::Executions(args) => executions::run(&context()?, &args),
        Command::Logs(args) => logs::run(&context()?, &args),
        Command::Rollback(args) => rollback::run(&context()?, &args),
        Command::Scripts(command) => scripts::run(&context()?, &command),
        Command::Modules(args) => modules::run(&context()?, &args),
        Command::Routes(command) => routes::run(&context()?, &command),
        Command::Triggers(command) => triggers::run(&context()?, &command),
        Command::Queues(command) => queues::run(&context()?, &command),
        Command::Apps(command) => apps::run(&context()?, &command),
        Command::Assets(command) => assets::run(&context()?, &command),
        Command::Kv(command) => kv::run(&context()?, &command),
        Command::Docs(command) => docs::run(&context()?, &command),
        Command::Files(command) => files::run(&context()?, &command),
        Command::Domains(command) => domains::run(&context()?, &command),
        Command::Egress(command) => egress::run(&context()?, &command),
        Command::Secrets(command) => secrets::run(&context()?, &command),
        Command::Members(command) => members::run(&context()?, &command),
        Command::Users(command) => users::run(&context()?, &command),
        Command::Transfers(command) => transfers::run(&context()?, &command),
        Command::Keys(command) => keys::run(&context()?, &command),
        Command::Sessions(command) => sessions::run(&context()?, &command),
        Command::Completions(args) => completions::run(&out, &args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn verify_cli() {
        Cli::command().debug_assert();
    }
}
