//! What the environment says, besides the variables that are command line options. Nothing else in
//! this crate reads the environment.

use std::env;
use std::path::PathBuf;

/// A credential for scripts and CI. It is no option, because options show in process lists.
pub(crate) const TOKEN: &str = "PICLOUD_TOKEN";

pub(crate) fn token() -> Option<String> {
    variable(TOKEN)
}

/// Follows <https://no-color.org>, and knows terminals that understand no colours.
pub(crate) fn is_colour_refused() -> bool {
    variable("NO_COLOR").is_some() || variable("TERM").is_some_and(|term| term == "dumb")
}

/// Where this platform keeps a program's configuration, with our own folder in it.
pub(crate) fn directory() -> Option<PathBuf> {
    platform_directory().map(|parent| parent.join("picloud"))
}

#[cfg(windows)]
fn platform_directory() -> Option<PathBuf> {
    variable("APPDATA").map(PathBuf::from)
}

#[cfg(target_os = "macos")]
fn platform_directory() -> Option<PathBuf> {
    Some(env::home_dir()?.join("Library").join("Application Support"))
}

#[cfg(not(any(windows, target_os = "macos")))]
fn platform_directory() -> Option<PathBuf> {
    // The XDG rules say to ignore a path that is not absolute.
    let given = variable("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    given.or_else(|| Some(env::home_dir()?.join(".config")))
}

/// An empty variable counts as unset, as it does for the shell's `${X:-}`.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
