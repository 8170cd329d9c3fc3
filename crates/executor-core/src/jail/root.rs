//! Step 7: a file system with nothing in it.

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, chroot, pivot_root};
use shared::wire::worker::Layers;

use super::Jail;

/// Any directory that every machine has: it is only covered within the worker's own namespace.
const COVERED: &str = "/dev";
/// One inode, the root itself.
const OPTIONS: &str = "size=4k,nr_inodes=1,mode=0555";

pub(super) fn empty(jail: &mut Jail) {
    if jail.held.contains(Layers::MOUNT_NAMESPACE) {
        jail.attempt(Layers::EMPTY_ROOT, replace);
    }
}

fn replace() -> Result<(), Errno> {
    let none: Option<&str> = None;
    // Else the mounts below would appear in the parent's namespace too.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("none"), COVERED, Some("tmpfs"), flags, Some(OPTIONS))?;
    chdir(COVERED)?;
    // The old root ends up on top of the new one, from where it is taken off. A machine that runs
    // from its initial RAM disk cannot change its root; there the old one is left behind, out of
    // reach for a process without descriptors and without the right to change its root again.
    match pivot_root(".", ".") {
        Ok(()) => umount2(".", MntFlags::MNT_DETACH)?,
        Err(Errno::EINVAL) => chroot(".")?,
        Err(errno) => return Err(errno),
    }
    chdir("/")
}
