//! What is measured: the real `picloud serve` on its defaults, with its private PostgreSQL and a new
//! data directory, as a process of its own.

mod admin;
mod database;

use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

pub(crate) use self::admin::{Admin, Execution, Worker, attempt};
pub(crate) use self::database::{Activity, Database};
use crate::process;

/// The name that workers run under, and what they are copies of.
const WORKER: &str = "picloud-worker";
/// The kernel's name of the process that they are copies of.
const ZYGOTE: &str = "picloud-zygote";
/// The first start makes a database cluster, which takes a slow disk a while.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// A little more than PiCloud takes to drain.
const STOP_WITHIN: Duration = Duration::from_secs(45);

#[derive(Debug)]
pub(crate) struct Picloud {
    child: Child,
    pub(crate) address: SocketAddr,
    // Kept open: what PiCloud writes must have somewhere to go.
    _stdout: BufReader<ChildStdout>,
    data: TempDir,
}

impl Picloud {
    /// Starts the given binary, or the one beside this program.
    pub(crate) fn start(binary: Option<&Path>) -> anyhow::Result<Self> {
        Self::start_with(binary, &[])
    }

    /// The same, with settings that are not the defaults.
    pub(crate) fn start_with(binary: Option<&Path>, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let binary = program(binary)?;
        let data = tempfile::Builder::new().prefix("picloud-bench-").tempdir()?;
        // PostgreSQL, which does not run as root, has to pass through.
        std::fs::set_permissions(data.path(), Permissions::from_mode(0o711))?;
        let log = File::create(data.path().join("bench.log"))?;
        let mut command = without_settings(&binary);
        let mut child = command
            .arg("serve")
            .env("PICLOUD_DATA_DIR", data.path())
            .env("PICLOUD_BIND", "127.0.0.1:0")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let mut stdout = BufReader::new(child.stdout.take().context("standard output is piped")?);
        let port = read_port(&mut stdout);
        let address = SocketAddr::from(([127, 0, 0, 1], port.unwrap_or(0)));
        let picloud = Self { child, address, _stdout: stdout, data };
        if port.is_none() {
            bail!("{} did not start:\n{}", binary.display(), picloud.log());
        }
        Ok(picloud)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The processes of the workers, spares included.
    pub(crate) fn workers(&self) -> Vec<u32> {
        let is_worker = |pid: &u32| {
            process::command_line(*pid).first().is_some_and(|name| name == WORKER)
                && process::name(*pid) != ZYGOTE
        };
        process::descendants(self.pid()).into_iter().filter(is_worker).collect()
    }

    /// The processes of the private PostgreSQL.
    pub(crate) fn postgres(&self) -> Vec<u32> {
        let workers = self.workers();
        process::descendants(self.pid()).into_iter().filter(|pid| !workers.contains(pid)).collect()
    }

    /// Logged in as the first owner, once everything is ready.
    pub(crate) fn admin(&self) -> anyhow::Result<Admin> {
        let file = self.data.path().join("initial-admin-password");
        let password =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let started = Instant::now();
        while !admin::is_ready(self.address) {
            ensure!(started.elapsed() < READY_WITHIN, "PiCloud does not become ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        Admin::log_in(self.address, "admin", password.trim())
    }

    pub(crate) fn database(&self) -> anyhow::Result<Database> {
        Database::find(&self.postgres(), self.data.path())
    }

    /// Stops it as an operator would, and insists that it stops well.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.pid().try_into()?), Signal::SIGTERM)?;
        let asked = Instant::now();
        while asked.elapsed() < STOP_WITHIN {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "PiCloud ended with {status}:\n{}", self.log());
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("PiCloud does not stop:\n{}", self.log())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.data.path().join("bench.log")).unwrap_or_default()
    }
}

impl Drop for Picloud {
    /// After an error: PostgreSQL should not be left behind, so it is asked first.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && self.stop().is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The port in the line `PiCloud is ready on http://localhost:8080`.
fn read_port(stdout: &mut impl BufRead) -> Option<u16> {
    let lines = stdout.lines().map_while(Result::ok);
    let ready = lines.into_iter().find(|line| line.starts_with("PiCloud is ready on "))?;
    ready.trim_end().rsplit_once(':')?.1.parse().ok()
}

/// The given binary, or the one beside this program.
pub(crate) fn program(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    given.map_or_else(beside_this_program, |path| Ok(path.to_owned()))
}

/// A command that sees none of the settings that whoever runs this has.
pub(crate) fn without_settings(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PICLOUD_") || name == "DATABASE_URL" {
            command.env_remove(name);
        }
    }
    command
}

fn beside_this_program() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("picloud");
    ensure!(
        path.is_file(),
        "{} is missing: build it with `cargo build --release -p picloud`",
        path.display()
    );
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_from_the_greeting() {
        let mut greeting = &b"\nPiCloud is ready on http://localhost:40123\n\n  log in as      admin\n"[..];
        assert_eq!(read_port(&mut greeting), Some(40123));
        assert_eq!(read_port(&mut &b"picloud: no PostgreSQL\n"[..]), None);
    }
}
