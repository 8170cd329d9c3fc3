//! The first start: makes the cluster, in the data directory where that is possible.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};

use super::account::Account;
use super::binaries::Binaries;
use super::cluster::{NAME, PASSWORD_FILE, SUPERUSER, with_suffix};
use super::socket;
use crate::data_dir::DataDir;

/// Where a cluster goes when its user cannot reach the data directory.
const ELSEWHERE: &str = "/var/lib/picloud";

/// Makes a cluster, and answers where it is and its superuser's password. The cluster appears
/// under its name only when it is whole; the password is on disk before that.
pub(super) fn create(
    data: &DataDir,
    account: Account,
    binaries: &Binaries,
    password: Option<String>,
) -> anyhow::Result<(PathBuf, String)> {
    let password = match password {
        Some(password) => password,
        None => {
            let password = random_password()?;
            data.write_private(PASSWORD_FILE, &password)?;
            password
        }
    };
    let dir = choose_place(data, account)?;
    let new = with_suffix(&dir, ".new");
    remove_unfinished(&new)?;
    account.private_dir(&new)?;
    run_initdb(account, binaries, &new, &password)?;
    std::fs::rename(&new, &dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let entry = data.path().join(NAME);
    if dir != entry {
        symlink(&dir, &entry).with_context(|| format!("cannot create {}", entry.display()))?;
    }
    File::open(data.path()).and_then(|dir| dir.sync_all()).context("cannot sync the data directory")?;
    Ok((dir, password))
}

/// The data directory if the cluster's user can reach it, else a place that everybody can reach.
fn choose_place(data: &DataDir, account: Account) -> anyhow::Result<PathBuf> {
    if account.can_enter(data.path()) {
        return Ok(data.path().join(NAME));
    }
    let parent = Path::new(ELSEWHERE);
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(parent)
        .with_context(|| format!("cannot create {}", parent.display()))?;
    let dir = parent.join(socket::short_hash(data.path()));
    tracing::warn!(
        path = %dir.display(),
        user = %account,
        "the database is kept outside the data directory, which its user cannot reach"
    );
    if dir.exists() {
        // Of a data directory that was deleted: its password and keys are gone, but deleting data
        // is not ours to decide.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let aside = with_suffix(&dir, &format!(".left-{now}"));
        tracing::warn!(path = %aside.display(), "moved away the database of a deleted data directory");
        std::fs::rename(&dir, &aside).with_context(|| format!("cannot move {} away", dir.display()))?;
    }
    Ok(dir)
}

fn run_initdb(account: Account, binaries: &Binaries, dir: &Path, password: &str) -> anyhow::Result<()> {
    let password_file = with_suffix(dir, "-password");
    remove_unfinished(&password_file)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&password_file)?;
    writeln!(file, "{password}")?;
    account.own(&password_file)?;
    // Byte order sorts fastest and never changes with the C library; the character classes should
    // know Unicode where the system has a locale for it.
    let mut result = Ok(());
    for character_type in ["C.UTF-8", "C"] {
        result = initdb(account, binaries, dir, &password_file, character_type);
        if result.is_ok() {
            break;
        }
    }
    std::fs::remove_file(&password_file)?;
    result
}

fn initdb(
    account: Account,
    binaries: &Binaries,
    dir: &Path,
    password_file: &Path,
    character_type: &str,
) -> anyhow::Result<()> {
    let mut command = account.command(&binaries.initdb);
    command.arg("-D").arg(dir).arg(joined("--pwfile=", password_file));
    command.args(["--username", SUPERUSER, "--auth=scram-sha-256", "--data-checksums"]);
    command.args(["--encoding=UTF8", "--locale=C", "--lc-ctype", character_type]);
    let output = command.output().context("cannot run initdb")?;
    ensure!(
        output.status.success(),
        "initdb failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Removes what an interrupted first start left.
fn remove_unfinished(path: &Path) -> anyhow::Result<()> {
    let result = match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(_) => Ok(()),
    };
    result.with_context(|| format!("cannot remove {}", path.display()))
}

/// 32 random bytes as hexadecimal digits, which need no quoting anywhere.
fn random_password() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow::anyhow!("no random bytes from the system: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn joined(option: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(option);
    argument.push(path);
    argument
}
