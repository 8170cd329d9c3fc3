//! The data directory: one `picloud` at a time, and small private files that are made once.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use nix::unistd::geteuid;

/// The data directory, locked for as long as this value or a clone of it lives.
///
/// The lock is the kernel's and belongs to the open file, so it is gone with the process, however
/// that ends.
#[derive(Debug, Clone)]
pub struct DataDir {
    path: PathBuf,
    _lock: Arc<File>,
}

impl DataDir {
    /// Creates the directory if it is missing, and refuses when another process has it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        create(path).with_context(|| format!("cannot create the data directory {}", path.display()))?;
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot open the data directory {}", path.display()))?;
        let lock = lock(&path)?;
        Ok(Self { path, _lock: Arc::new(lock) })
    }

    /// The absolute path, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a file of this directory, without the white space around its content. `None` when
    /// there is no such file.
    pub fn read(&self, name: &str) -> anyhow::Result<Option<String>> {
        let path = self.path.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Replaces a file that only this user may read (mode 0600). After a crash the file is either
    /// wholly old or wholly new.
    pub fn write_private(&self, name: &str, content: &str) -> anyhow::Result<()> {
        let path = self.path.join(name);
        write_atomically(&self.path, name, content)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Gives a file another's name; whoever had that is gone. After a crash it has the one or the other.
    pub fn rename(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let (from, to) = (self.path.join(from), self.path.join(to));
        std::fs::rename(&from, &to)
            .and_then(|()| File::open(&self.path)?.sync_all())
            .with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, name: &str) -> anyhow::Result<()> {
        let path = self.path.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}

fn create(path: &Path) -> io::Result<()> {
    // As root, PostgreSQL runs as another user and has to pass through to its own directory:
    // passing is allowed, listing is not, and each secret is a file of mode 0600.
    let mode = if geteuid().is_root() { 0o711 } else { 0o700 };
    DirBuilder::new().recursive(true).mode(mode).create(path)
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let file = path.join("lock");
    let context = || format!("cannot lock {}", file.display());
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&file)
        .with_context(context)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The number is a courtesy; the refusal stands without it.
            let _ = lock.read_to_string(&mut holder);
            bail!(
                "another picloud (process {}) is running on {}: stop it, or set PICLOUD_DATA_DIR to another directory",
                holder.trim(),
                path.display()
            );
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(context),
    }
    lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).with_context(context)?;
    Ok(lock)
}

fn write_atomically(dir: &Path, name: &str, content: &str) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(content.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&new, dir.join(name))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_holder_is_refused_with_the_first_ones_process() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("data");
        let first = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_private_file_is_readable_by_its_owner_alone() {
        let temp = tempfile::tempdir().unwrap();
        let data = DataDir::open(temp.path()).unwrap();
        assert_eq!(data.read("key").unwrap(), None);
        data.write_private("key", "one").unwrap();
        data.write_private("key", "two").unwrap();
        assert_eq!(data.read("key").unwrap().as_deref(), Some("two"));
        let mode = std::fs::metadata(data.path().join("key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
