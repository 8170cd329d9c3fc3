//! The command line: one binary, a subcommand for each role.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use picloud::config::{self, Config};
use picloud::{doctor, migrate, reset, serve, telemetry};
use shared::name::Username;
use shared::wire::worker::WORKER_ARG;

/// Upload a Rhai script, get an HTTP endpoint.
#[derive(Debug, Parser)]
#[command(name = "picloud", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything: HTTP, admin API, workers, and a private PostgreSQL unless one is given
    Serve {
        /// A TOML file with settings; the environment goes before it
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Bring the schema of the database up to date, as a server does when it starts, and end
    Migrate {
        /// A TOML file with settings; the environment goes before it
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Help somebody back in, without a login: for who can read the data directory
    Admin {
        #[command(subcommand)]
        command: AdminCommand,
    },
    /// Say what holds on this machine, what does not, and what to do about it
    Doctor {
        /// A TOML file with settings; the environment goes before it
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// For programs rather than people
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Give somebody a new password and end their sessions; the server may run meanwhile
    ResetPassword {
        /// Whose
        username: Username,
        /// Read the new password from standard input; without this one is made up and printed
        #[arg(long)]
        password_stdin: bool,
        /// Also remove their second factor
        #[arg(long)]
        reset_second_factor: bool,
        /// A TOML file with settings; the environment goes before it
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    // A worker must not run a line more than it needs, so this comes before everything else.
    if args.next().is_some_and(|first| first == WORKER_ARG) {
        return executor_core::main(args);
    }
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            telemetry::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match cli.command {
        Command::Serve { config } => {
            let config = begin(config.as_deref())?;
            runtime()?.block_on(serve::serve(config))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Migrate { config } => {
            let config = begin(config.as_deref())?;
            let text = runtime()?.block_on(migrate::migrate(&config))?;
            std::io::stdout().write_all(text.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Admin {
            command: AdminCommand::ResetPassword { username, password_stdin, reset_second_factor, config },
        } => {
            let config = begin(config.as_deref())?;
            let given = if password_stdin { Some(reset::password_from(std::io::stdin())?) } else { None };
            let work = reset::reset_password(&config, username, given, reset_second_factor);
            let text = runtime()?.block_on(work)?;
            std::io::stdout().write_all(text.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Doctor { config, json } => {
            let config = begin(config.as_deref())?;
            let report = runtime()?.block_on(doctor::examine(&config, None));
            let text = if json { serde_json::to_string_pretty(&report)? + "\n" } else { report.to_string() };
            std::io::stdout().write_all(text.as_bytes())?;
            Ok(if report.can_run() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// Reads the settings, and logs as they say from here on.
fn begin(file: Option<&Path>) -> anyhow::Result<Config> {
    let config = Config::load(file)?;
    telemetry::start(config.log_format);
    config::warn_of_misspelt_variables();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn verify_cli() {
        super::Cli::command().debug_assert();
    }
}
