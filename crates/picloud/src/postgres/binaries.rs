//! Finds the PostgreSQL server programs of this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

use super::account::Account;

/// The oldest major version this is tested against.
const OLDEST_MAJOR: u32 = 14;

/// The server programs of one installed version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    pub(super) major: u32,
    pub(super) postgres: PathBuf,
    pub(super) initdb: PathBuf,
}

/// The newest installed version, or the one that made the cluster: PostgreSQL opens no cluster of
/// another major version.
pub(super) fn find(account: Account, cluster_major: Option<u32>) -> anyhow::Result<Binaries> {
    let mut found: Vec<Binaries> = directories()
        .iter()
        .filter_map(|dir| probe(account, dir))
        .filter(|b| b.major >= OLDEST_MAJOR)
        .collect();
    found.sort_by_key(|binaries| binaries.major);
    let Some(newest) = found.last().cloned() else {
        bail!(
            "no PostgreSQL server (version {OLDEST_MAJOR} or newer) is installed: on Debian or Ubuntu run \
             `apt-get install postgresql`, or set DATABASE_URL to use a server elsewhere"
        );
    };
    let Some(major) = cluster_major else { return Ok(newest) };
    match found.into_iter().find(|binaries| binaries.major == major) {
        Some(binaries) => Ok(binaries),
        None => bail!(
            "the database was made by PostgreSQL {major}, but only version {} is installed: run \
             `apt-get install postgresql-{major}`, or move the data with pg_upgrade",
            newest.major
        ),
    }
}

/// Where server programs may be, in no order: the version decides.
fn directories() -> Vec<PathBuf> {
    let mut directories = Vec::new();
    // The shell knows the search path, and what pg_config reports is where its package put them.
    for (program, arguments) in
        [("sh", ["-c", "command -v postgres"].as_slice()), ("pg_config", &["--bindir"])]
    {
        let Some(line) = first_line(Command::new(program).args(arguments)) else { continue };
        let path = PathBuf::from(line);
        directories.push(match path.canonicalize() {
            Ok(file) if file.is_file() => file.parent().map(Path::to_owned).unwrap_or_default(),
            _ => path,
        });
    }
    for (parent, prefix) in [("/usr/lib/postgresql", ""), ("/usr", "pgsql-"), ("/usr/local", "pgsql")] {
        let Ok(entries) = std::fs::read_dir(parent) else { continue };
        let versions = entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(prefix));
        directories.extend(versions.map(|entry| entry.path().join("bin")).filter(|bin| bin.is_dir()));
    }
    directories.sort();
    directories.dedup();
    directories
}

/// The version in a directory. Runs as the server's user, who has to be able to run it.
fn probe(account: Account, dir: &Path) -> Option<Binaries> {
    let (postgres, initdb) = (dir.join("postgres"), dir.join("initdb"));
    if !postgres.is_file() || !initdb.is_file() {
        return None;
    }
    let major = parse_major(&first_line(account.command(&postgres).arg("--version"))?)?;
    Some(Binaries { major, postgres, initdb })
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

/// The major version in `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL)")?.1.trim_start();
    let digits = number.bytes().take_while(u8::is_ascii_digit).count();
    number.get(..digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_releases_and_betas() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(parse_major("postgres (EnterpriseDB) x"), None);
    }
}
