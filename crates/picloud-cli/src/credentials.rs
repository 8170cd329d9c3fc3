//! The file of logins: one per server, so that a token is only ever sent to the server it is from.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config;

/// What is in the file.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Credentials {
    /// The server last logged in to.
    pub(crate) current: Option<String>,
    #[serde(default)]
    pub(crate) servers: BTreeMap<String, Login>,
}

/// A login at one server. No `Debug`, so that the token cannot slip into a message.
#[derive(Serialize, Deserialize)]
pub(crate) struct Login {
    pub(crate) username: String,
    pub(crate) token: String,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    #[error("there is no home directory to keep the login in; set PICLOUD_TOKEN instead")]
    NoDirectory,
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is damaged; remove it and log in again")]
    Damaged { path: PathBuf, source: toml::de::Error },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("the login cannot be written as TOML")]
    Encode(#[source] toml::ser::Error),
}

impl Credentials {
    /// An absent file is the same as an empty one.
    pub(crate) fn load() -> Result<Self, CredentialsError> {
        let Ok(path) = path() else { return Ok(Self::default()) };
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|source| CredentialsError::Damaged { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(CredentialsError::Read { path, source }),
        }
    }

    /// Replaces the file as a whole: a crash leaves either the old one or the new one.
    pub(crate) fn save(&self) -> Result<PathBuf, CredentialsError> {
        let path = path()?;
        let text = toml::to_string(self).map_err(CredentialsError::Encode)?;
        match replace(&path, &text) {
            Ok(()) => Ok(path),
            Err(source) => Err(CredentialsError::Write { path, source }),
        }
    }

    pub(crate) fn token(&self, url: &str) -> Option<&str> {
        self.servers.get(url).map(|login| login.token.as_str())
    }

    /// Returns whether there was a login to forget.
    pub(crate) fn forget(&mut self, url: &str) -> bool {
        if self.current.as_deref() == Some(url) {
            self.current = None;
        }
        self.servers.remove(url).is_some()
    }
}

fn path() -> Result<PathBuf, CredentialsError> {
    let directory = config::directory().ok_or(CredentialsError::NoDirectory)?;
    Ok(directory.join("credentials.toml"))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    create_private_directory(directory)?;
    let temporary = directory.join(format!(".credentials.{}", std::process::id()));
    // Left over from a crash of an earlier process with our id.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = private_file().open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)
}

#[cfg(unix)]
fn create_private_directory(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        // An older directory may have been made with a lax umask.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
        }
        other => other,
    }
}

#[cfg(not(unix))]
fn create_private_directory(directory: &Path) -> io::Result<()> {
    // The profile directory is private to its user already.
    fs::create_dir_all(directory)
}

/// Private from the first moment: never readable between creation and a later chmod.
fn private_file() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
