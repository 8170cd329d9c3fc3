//! Steps 1, 2, 10 and 11: what the process is.

use std::ffi::CStr;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid, setpgid};
use shared::wire::worker::Layers;

use super::{Jail, JailError};

/// Step 1. A worker without its parent serves nobody and answers to nobody.
pub(super) fn die_with_parent() -> Result<(), JailError> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(JailError::ParentDeath)
}

/// The rest of step 1.
pub(super) fn check_parent(parent: i32) -> Result<(), JailError> {
    // The parent may have died before the signal was asked for; then someone else adopted us.
    if getppid().as_raw() != parent {
        return Err(JailError::ParentGone);
    }
    leave_group();
    Ok(())
}

/// The rest of step 1. Ctrl-C on a terminal is for the parent, which then lets its workers finish.
/// The session stays the parent's: the kernel shares processors out by sessions first, and a worker
/// with one of its own would get as much as the parent and everything beside it.
pub(super) fn leave_group() {
    let _ = setpgid(Pid::this(), Pid::from_raw(0));
}

/// What the kernel calls this process, for whoever looks at processes. One without a name does its work as well.
pub(crate) fn call_it(name: &CStr) {
    let _ = prctl::set_name(name);
}

/// Step 2. Environments carry secrets: the database's address, the master key.
pub(super) fn check_environment() -> Result<(), JailError> {
    match std::env::vars_os().count() {
        0 => Ok(()),
        count => Err(JailError::Environment(count)),
    }
}

/// Step 10.
pub(super) fn forbid_new_privileges(jail: &mut Jail) -> Result<(), JailError> {
    jail.require(Layers::NO_NEW_PRIVILEGES, prctl::set_no_new_privs).map_err(JailError::NoNewPrivileges)
}

/// Step 11. No core file, no `/proc/self/mem`, no debugger of the same user.
pub(super) fn forbid_dumps(jail: &mut Jail) -> Result<(), JailError> {
    let forbid = || {
        prctl::set_dumpable(false)?;
        if prctl::get_dumpable()? { Err(Errno::EPERM) } else { Ok(()) }
    };
    jail.require(Layers::NOT_DUMPABLE, forbid).map_err(JailError::Dumpable)
}
