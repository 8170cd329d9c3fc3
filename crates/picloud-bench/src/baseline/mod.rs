//! What PiCloud is measured against, as processes of their own: this program, started by itself.

mod database;
mod native;
mod server;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use clap::ValueEnum;

pub(crate) use self::native::Native;

/// The path that each baseline answers.
pub(crate) const PATH: &str = "/bench/hello/world";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// An axum handler that answers a constant text
    Axum,
    /// An axum handler that runs the hello script with Rhai in a blocking task
    Native,
    /// An axum handler that runs the statements of `kv`
    Database,
}

/// Serves a baseline in this process until standard input ends.
pub(crate) fn serve(kind: Kind, database: Option<&str>) -> anyhow::Result<()> {
    server::serve(kind, database)
}

/// A baseline in a process of its own; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Baseline {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Baseline {
    pub(crate) fn start(kind: Kind) -> anyhow::Result<Self> {
        Self::start_with(kind, &[])
    }

    /// The one that asks this database.
    pub(crate) fn on_database(url: &str) -> anyhow::Result<Self> {
        Self::start_with(Kind::Database, &["--database", url])
    }

    fn start_with(kind: Kind, more: &[&str]) -> anyhow::Result<Self> {
        let name = kind.to_possible_value().context("every baseline has a name")?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["baseline", name.get_name()])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a baseline")?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line.trim().parse().with_context(|| format!("the baseline {name:?} did not start"));
        match address {
            Ok(address) => Ok(Self { child, address }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
