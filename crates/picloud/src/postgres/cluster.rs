//! The cluster on disk: where it is, how it is served, and what its files say about the server.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use super::account::Account;
use super::binaries::{self, Binaries};
use super::{creation, settings, socket};
use crate::data_dir::DataDir;

/// The cluster's name in the data directory: a directory, or a link to where it is.
pub(super) const NAME: &str = "postgres";
/// The bootstrap superuser.
pub(super) const SUPERUSER: &str = "postgres";
/// File with the superuser's password.
pub(super) const PASSWORD_FILE: &str = "postgres-password";
/// A log over this size is moved aside at the next start.
const LOG_BYTES_MAX: u64 = 8 << 20;
/// How much of the log is shown when the server does not start.
const LOG_TAIL_BYTES: u64 = 2_000;

/// A cluster that exists, and everything needed to serve it.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) dir: PathBuf,
    pub(super) socket_dir: PathBuf,
    pub(super) binaries: Binaries,
    pub(super) password: String,
    pub(super) password_file: PathBuf,
    pub(super) log: PathBuf,
    account: Account,
}

impl Cluster {
    /// Opens the data directory's cluster, making it first if there is none.
    pub(super) fn open(data: &DataDir, account: Account) -> anyhow::Result<Self> {
        let existing = locate(data.path())?;
        let major = existing.as_deref().map(version_of).transpose()?;
        let binaries = binaries::find(account, major)?;
        let password_file = data.path().join(PASSWORD_FILE);
        let (dir, password) = match (existing, data.read(PASSWORD_FILE)?) {
            (Some(dir), Some(password)) => (dir, password),
            (Some(dir), None) => bail!(
                "{} is missing, but the database in {} needs it: restore it from a backup, or move {} away to \
                 start with an empty database",
                password_file.display(),
                dir.display(),
                data.path().join(NAME).display()
            ),
            (None, password) => creation::create(data, account, &binaries, password)?,
        };
        ensure!(
            account.can_enter(&dir),
            "the user {account}, who owns the database, cannot reach {}: allow passing through the directories \
             above it (chmod o+x)",
            dir.display()
        );
        let socket_dir = socket::directory(account, &dir)?;
        let log = data.path().join("postgres.log");
        Ok(Self { dir, socket_dir, binaries, password, password_file, log, account })
    }

    /// The command that runs the server in the foreground, tied to our life where that is possible.
    pub(super) fn server_command(&self) -> anyhow::Result<Command> {
        let mut command = if self.can_die_with_parent() {
            // setpriv runs after the change of user, which would clear the signal.
            let mut command = self.account.command(Path::new("setpriv"));
            command.args(["--pdeathsig", "INT", "--"]).arg(&self.binaries.postgres);
            command
        } else {
            tracing::info!("no setpriv: if picloud is killed, PostgreSQL runs on until the next start");
            self.account.command(&self.binaries.postgres)
        };
        let log = open_log(&self.log).with_context(|| format!("cannot write {}", self.log.display()))?;
        command.stdout(log.try_clone()?).stderr(log);
        command.args(settings::arguments(&self.dir, &self.socket_dir));
        Ok(command)
    }

    fn can_die_with_parent(&self) -> bool {
        let mut probe = self.account.command(Path::new("setpriv"));
        probe.args(["--pdeathsig", "INT", "--", "true"]);
        probe.output().is_ok_and(|output| output.status.success())
    }

    /// Whether the server with this process id says that it accepts connections: line 8 of its
    /// `postmaster.pid`.
    pub(super) fn is_ready(&self, pid: i32) -> bool {
        let Ok(text) = std::fs::read_to_string(self.dir.join("postmaster.pid")) else { return false };
        let mut lines = text.lines().map(str::trim);
        lines.next() == Some(&pid.to_string()) && lines.nth(6) == Some("ready")
    }

    /// The end of the server's log.
    pub(super) fn log_tail(&self) -> String {
        let tail = || -> io::Result<String> {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        tail().unwrap_or_else(|error| format!("({error})"))
    }
}

/// The major version of the server that made the data directory's cluster, if there is one.
pub(super) fn version(data_dir: &Path) -> anyhow::Result<Option<u32>> {
    locate(data_dir)?.as_deref().map(version_of).transpose()
}

/// The directory of the cluster that exists, behind the link if there is one.
fn locate(data_dir: &Path) -> anyhow::Result<Option<PathBuf>> {
    let entry = data_dir.join(NAME);
    if std::fs::symlink_metadata(&entry).is_err() {
        return Ok(None);
    }
    match entry.canonicalize() {
        Ok(dir) => Ok(Some(dir)),
        Err(error) => Err(error).with_context(|| {
            format!(
                "{} leads nowhere: restore what it points to, or remove it to start with an empty database",
                entry.display()
            )
        }),
    }
}

/// The major version of the server that made a cluster.
fn version_of(dir: &Path) -> anyhow::Result<u32> {
    let file = dir.join("PG_VERSION");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    // Before version 10 it is two numbers, as in 9.6; none of these is served, and the first is enough to say so.
    let major = text.trim().split('.').next().unwrap_or_default();
    major.parse().with_context(|| format!("{} is not a PostgreSQL version", file.display()))
}

fn open_log(path: &Path) -> io::Result<File> {
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
        std::fs::rename(path, with_suffix(path, ".old"))?;
    }
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// A sibling of a path, named after it.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
