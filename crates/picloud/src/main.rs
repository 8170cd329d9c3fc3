//! The command line: one binary, a subcommand for each role.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use picloud::config::Config;
use picloud::{serve, telemetry};
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
    /// Run everything: HTTP, admin API, workers, and a private PostgreSQL unless DATABASE_URL is set
    Serve {
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
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Serve { config } => {
            telemetry::start();
            let config = Config::load(config.as_deref())?;
            tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve::serve(config))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn verify_cli() {
        super::Cli::command().debug_assert();
    }
}
