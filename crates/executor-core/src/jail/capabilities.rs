//! Step 9: the rights that Linux splits root into.

use std::ptr;

use nix::errno::Errno;

use shared::wire::worker::Layers;

use super::{Jail, JailError};

/// `_LINUX_CAPABILITY_VERSION_3`: two words of 32 capabilities.
const VERSION: u32 = 0x2008_0522;
/// More than any kernel has; the kernel says where they end.
const CAPABILITIES_MAX: libc::c_ulong = 64;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

pub(super) fn drop_all(jail: &mut Jail) -> Result<(), JailError> {
    // First, because it takes a capability to do so. A user without any has a bounding set that
    // step 10 makes meaningless, and cannot empty it.
    jail.attempt(Layers::EMPTY_BOUNDING_SET, empty_bounding_set);
    let drop = || {
        prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong)?;
        set([Sets::default(); 2])
    };
    jail.require(Layers::NO_CAPABILITIES, drop).map_err(JailError::Capabilities)
}

/// Makes every permitted capability effective.
pub(super) fn raise() -> Result<(), Errno> {
    let mut sets = get()?;
    for word in &mut sets {
        word.effective = word.permitted;
    }
    set(sets)
}

fn empty_bounding_set() -> Result<(), Errno> {
    for capability in 0..CAPABILITIES_MAX {
        match prctl(libc::PR_CAPBSET_DROP, capability) {
            Ok(()) => {}
            Err(Errno::EINVAL) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn prctl(option: libc::c_int, argument: libc::c_ulong) -> Result<(), Errno> {
    let unused: libc::c_ulong = 0;
    // SAFETY: both options in use take one number and four that are not looked at or must be zero.
    Errno::result(unsafe { libc::prctl(option, argument, unused, unused, unused) }).map(drop)
}

fn get() -> Result<[Sets; 2], Errno> {
    let mut header = Header { version: VERSION, pid: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: the kernel reads and writes one header, and for this version writes two words of
    // sets; both live until the call returns and have the kernel's layout.
    let result = unsafe { libc::syscall(libc::SYS_capget, ptr::from_mut(&mut header), sets.as_mut_ptr()) };
    Errno::result(result).map(|_| sets)
}

fn set(sets: [Sets; 2]) -> Result<(), Errno> {
    let mut header = Header { version: VERSION, pid: 0 };
    // SAFETY: as in `get`, but the sets are only read.
    let result = unsafe { libc::syscall(libc::SYS_capset, ptr::from_mut(&mut header), sets.as_ptr()) };
    Errno::result(result).map(drop)
}
