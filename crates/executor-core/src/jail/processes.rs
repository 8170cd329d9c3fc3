//! Step 3: a namespace of process ids in which the worker is the first and only process.

use std::io::{self, Write};

use nix::errno::Errno;
use nix::unistd::getpid;
use shared::wire::worker::Layers;

use super::{Jail, JailError, process};

/// Nobody can move into such a namespace, only be born in it. So the worker is made a second time,
/// as a copy of this process and a child of the same parent, and this process ends. Its only traces
/// are a process id that the parent waits for at once, and the line that names the copy.
///
/// Inside, the parent's process id is 0, alive or not: a copy whose parent died meanwhile finds its
/// socket closed instead.
pub(super) fn become_first(jail: &mut Jail) -> Result<(), JailError> {
    if !jail.wanted.contains(Layers::PROCESS_NAMESPACE) {
        return announce(getpid().as_raw());
    }
    match copy(jail) {
        Ok(0) => {
            jail.held |= Layers::PROCESS_NAMESPACE;
            // Both ended with the process that was copied.
            process::die_with_parent()?;
            process::leave_group();
            Ok(())
        }
        Ok(worker) => {
            announce(worker)?;
            std::process::exit(0)
        }
        Err(errno) => {
            super::complain(&format_args!("without {}: {errno}", Layers::PROCESS_NAMESPACE));
            announce(getpid().as_raw())
        }
    }
}

/// Whoever may not make namespaces makes one of users along with it, which step 6 then uses too.
fn copy(jail: &mut Jail) -> Result<i32, Errno> {
    let alone = clone(libc::CLONE_NEWPID);
    if alone != Err(Errno::EPERM) || !jail.wanted.contains(Layers::USER_NAMESPACE) {
        return alone;
    }
    let copied = clone(libc::CLONE_NEWPID | libc::CLONE_NEWUSER);
    if copied == Ok(0) {
        jail.held |= Layers::USER_NAMESPACE;
    }
    copied
}

fn clone(namespaces: libc::c_int) -> Result<i32, Errno> {
    let flags = libc::c_ulong::from((namespaces | libc::CLONE_PARENT).cast_unsigned());
    let unused: libc::c_ulong = 0;
    // SAFETY: as fork: no stack is given and no memory is shared, and this process has one thread,
    // so the copy has everything it had.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, unused, unused, unused, unused) };
    Errno::result(pid).map(|pid| i32::try_from(pid).unwrap_or_default())
}

/// Tells the parent, on standard output, which process is the worker.
fn announce(pid: i32) -> Result<(), JailError> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{pid}").and_then(|()| stdout.flush()).map_err(JailError::Announce)
}
