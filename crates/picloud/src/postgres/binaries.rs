//! Finds the PostgreSQL server programs of this machine.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::account::Account;

/// The oldest major version this is tested against.
pub const OLDEST_MAJOR: u32 = 14;

/// There are no server programs that could serve the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotInstalled {
    pub found: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for NotInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.found, self.remedy)
    }
}

impl std::error::Error for NotInstalled {}

/// The server programs of one installed version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    pub(super) major: u32,
    pub(super) postgres: PathBuf,
    pub(super) initdb: PathBuf,
}

/// The newest installed version, or the one that made the cluster: PostgreSQL opens no cluster of
/// another major version.
pub(super) fn find(account: Account, cluster_major: Option<u32>) -> Result<Binaries, NotInstalled> {
    let mut found: Vec<Binaries> = directories()
        .iter()
        .filter_map(|dir| probe(account, dir))
        .filter(|b| b.major >= OLDEST_MAJOR)
        .collect();
    found.sort_by_key(|binaries| binaries.major);
    choose(found, cluster_major)
}

/// Of those that are installed, oldest first.
fn choose(mut installed: Vec<Binaries>, cluster_major: Option<u32>) -> Result<Binaries, NotInstalled> {
    let Some(newest) = installed.pop() else {
        return Err(NotInstalled {
            found: format!("no PostgreSQL server (version {OLDEST_MAJOR} or newer) is installed"),
            remedy:
                "on Debian or Ubuntu run `apt-get install postgresql`, or set DATABASE_URL to use a server \
                     elsewhere"
                    .to_owned(),
        });
    };
    let Some(major) = cluster_major.filter(|major| *major != newest.major) else { return Ok(newest) };
    let same = installed.into_iter().find(|binaries| binaries.major == major);
    same.ok_or_else(|| NotInstalled {
        found: format!(
            "the database was made by PostgreSQL {major}, but only version {} is installed",
            newest.major
        ),
        remedy: if major < OLDEST_MAJOR {
            format!("move the data with pg_upgrade, as PiCloud needs version {OLDEST_MAJOR} or newer")
        } else {
            format!("run `apt-get install postgresql-{major}`, or move the data with pg_upgrade")
        },
    })
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

    fn installed(majors: &[u32]) -> Vec<Binaries> {
        let binaries = |major: &u32| Binaries { major: *major, postgres: "p".into(), initdb: "i".into() };
        majors.iter().map(binaries).collect()
    }

    #[test]
    fn a_cluster_is_served_by_the_version_that_made_it_and_a_new_one_by_the_newest() {
        let chosen = |majors: &[u32], cluster| choose(installed(majors), cluster).map(|chosen| chosen.major);
        assert_eq!(chosen(&[15, 16, 17], None), Ok(17));
        assert_eq!(chosen(&[15, 16, 17], Some(17)), Ok(17));
        assert_eq!(chosen(&[15, 16, 17], Some(15)), Ok(15));
        for (majors, cluster, remedy) in [
            (&[16, 17][..], Some(15), "postgresql-15"),
            (&[16, 17], Some(9), "pg_upgrade"),
            (&[], Some(15), "DATABASE_URL"),
            (&[], None, "apt-get install postgresql`"),
        ] {
            let error = chosen(majors, cluster).unwrap_err();
            assert!(error.remedy.contains(remedy), "{error}");
            assert_eq!(error.to_string(), format!("{}: {}", error.found, error.remedy));
        }
    }

    #[test]
    fn the_major_version_is_read_from_releases_and_betas() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(parse_major("postgres (EnterpriseDB) x"), None);
    }
}
