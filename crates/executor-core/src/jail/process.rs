//! Steps 1, 2, 4 and 5: what the process is.

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

use super::JailError;

/// Step 1. A worker without its parent serves nobody and answers to nobody.
pub(super) fn die_with_parent(parent: i32) -> Result<(), JailError> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(JailError::ParentDeath)?;
    // The parent may have died before the signal was asked for; then someone else adopted us.
    if getppid().as_raw() != parent {
        return Err(JailError::ParentGone);
    }
    Ok(())
}

/// Step 2. Environments carry secrets: the database's address, the master key.
pub(super) fn check_environment() -> Result<(), JailError> {
    match std::env::vars_os().count() {
        0 => Ok(()),
        count => Err(JailError::Environment(count)),
    }
}

/// Step 4.
pub(super) fn forbid_new_privileges() -> Result<(), JailError> {
    prctl::set_no_new_privs().map_err(JailError::NoNewPrivileges)
}

/// Step 5. No core file, no `/proc/self/mem`, no debugger of the same user.
pub(super) fn forbid_dumps() -> Result<(), JailError> {
    prctl::set_dumpable(false).map_err(JailError::Dumpable)?;
    match prctl::get_dumpable() {
        Ok(false) => Ok(()),
        Ok(true) => Err(JailError::Dumpable(Errno::EPERM)),
        Err(errno) => Err(JailError::Dumpable(errno)),
    }
}
