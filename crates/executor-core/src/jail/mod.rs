//! What a worker gives up before it touches anything a stranger wrote.
//!
//! The steps stand here in their order; each has its own error, and `docs/jail.md` lists the same
//! numbers. [`enter`] is everything that can be done at once; [`lock`] is what must wait until the
//! guest is loaded.

mod descriptors;
mod process;
mod resources;

use std::fmt::Display;
use std::io::Write;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

/// A step that failed. A worker that cannot take every step does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JailError {
    #[error("step 1, die with the parent: {0}")]
    ParentDeath(#[source] Errno),
    #[error("step 1, die with the parent: it is already gone")]
    ParentGone,
    #[error("step 2, empty environment: {0} variables were passed")]
    Environment(usize),
    #[error("step 3, arrange descriptors: {0}")]
    Descriptors(#[source] Errno),
    #[error("step 4, no new privileges: {0}")]
    NoNewPrivileges(#[source] Errno),
    #[error("step 5, not dumpable: {0}")]
    Dumpable(#[source] Errno),
    #[error("step 6, limit {resource}: {errno}")]
    Limit {
        resource: &'static str,
        #[source]
        errno: Errno,
    },
}

/// Steps 1 to 5. Answers the worker's one socket.
pub(crate) fn enter(parent: i32) -> Result<OwnedFd, JailError> {
    process::die_with_parent(parent)?; // 1: first, so that no failure below leaves an orphan
    process::check_environment()?; // 2: what exec was given; nothing can be taken back here
    let socket = descriptors::arrange()?; // 3: before anything opens a descriptor of its own
    process::forbid_new_privileges()?; // 4: also what lets later layers be installed without rights
    process::forbid_dumps()?; // 5: hides memory from other processes of the same user
    Ok(socket)
}

/// Step 6, once the guest is loaded: loading needs a descriptor and a file for its memory image.
pub(crate) fn lock() -> Result<(), JailError> {
    resources::limit() // 6
}

/// Writes one line to standard error, which the supervisor reads. A worker that cannot even do that
/// still has its exit code.
pub(crate) fn complain(error: &dyn Display) {
    let _ = writeln!(std::io::stderr(), "worker: {error}");
}
