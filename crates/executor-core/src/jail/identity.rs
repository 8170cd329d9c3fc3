//! Step 5: a user id of the worker's own.

use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};
use shared::wire::worker::Layers;

use super::{Jail, capabilities};

/// First of a range of ids that neither distributions nor container managers assign; a process id,
/// at most 2^22, is added to it.
const FIRST_ID: u32 = 2_000_000_000;

/// Two workers never have the same user, so neither may signal, trace or starve the other. Only
/// root can give ids away; a worker that another user started keeps that user's, and its user
/// namespace makes that id worth nothing.
pub(super) fn take_own(jail: &mut Jail) {
    if geteuid().is_root() {
        jail.attempt(Layers::OWN_USER, change);
        return;
    }
    // Few users were given the right to leave their groups, and a user namespace gives it to nobody who had it not.
    // Which groups stayed is said by `picloud doctor`.
    let _ = setgroups(&[]);
}

fn change() -> Result<(), Errno> {
    let id = FIRST_ID + machine_wide_pid()?;
    let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    // Steps 6 to 8 still need rights; step 9 drops them.
    prctl::set_keepcaps(true)?;
    setresuid(user, user, user)?;
    prctl::set_keepcaps(false)?;
    capabilities::raise()
}

/// In its own namespace every worker is process 1; the file system still says what it is outside.
fn machine_wide_pid() -> Result<u32, Errno> {
    let link = nix::fcntl::readlink("/proc/self")?;
    link.to_str().and_then(|pid| pid.parse().ok()).ok_or(Errno::ESRCH)
}
