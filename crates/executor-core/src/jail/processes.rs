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
    match copy_apart(jail) {
        Ok(None) => {
            // Both ended with the process that was copied.
            process::die_with_parent()?;
            process::leave_group();
            Ok(())
        }
        Ok(Some(worker)) => {
            announce(worker)?;
            std::process::exit(0)
        }
        Err(errno) => {
            complain(errno);
            announce(getpid().as_raw())
        }
    }
}

/// Which of two processes goes on.
pub(super) enum Side {
    /// The one that was there, and the other's id.
    Original(i32),
    /// The other, and why it has no namespace of its own if it is to have one.
    Copy(Option<Errno>),
}

/// Makes a worker as a copy of this process, which goes on: in a namespace of its own where that is wanted and can be
/// had.
pub(super) fn copy(jail: &mut Jail) -> Result<Side, Errno> {
    let mut lack = None;
    let mut copied = Err(Errno::ENOSYS);
    if jail.wanted.contains(Layers::PROCESS_NAMESPACE) {
        copied = copy_apart(jail);
        lack = copied.err();
    }
    Ok(copied.or_else(|_| clone(0))?.map_or(Side::Copy(lack), Side::Original))
}

/// Step 1 in such a copy, which has nothing of it from its original.
pub(super) fn arrive(jail: &Jail, parent: i32, lack: Option<Errno>) -> Result<(), JailError> {
    process::die_with_parent()?;
    if let Some(errno) = lack {
        complain(errno);
    }
    if !jail.held.contains(Layers::PROCESS_NAMESPACE) {
        return process::check_parent(parent);
    }
    process::leave_group();
    Ok(())
}

/// Whoever may not make namespaces makes one of users along with it, which step 6 then uses too.
fn copy_apart(jail: &mut Jail) -> Result<Option<i32>, Errno> {
    let mut layers = Layers::PROCESS_NAMESPACE;
    let mut copied = clone(libc::CLONE_NEWPID);
    if copied == Err(Errno::EPERM) && jail.wanted.contains(Layers::USER_NAMESPACE) {
        layers |= Layers::USER_NAMESPACE;
        copied = clone(libc::CLONE_NEWPID | libc::CLONE_NEWUSER);
    }
    if copied == Ok(None) {
        jail.held |= layers;
    }
    copied
}

fn complain(errno: Errno) {
    super::complain(&format_args!("without {}: {errno}", Layers::PROCESS_NAMESPACE));
}

/// Answers the copy's id; in the copy nothing.
fn clone(namespaces: libc::c_int) -> Result<Option<i32>, Errno> {
    let flags = libc::c_ulong::from((namespaces | libc::CLONE_PARENT).cast_unsigned());
    let unused: libc::c_ulong = 0;
    // SAFETY: as fork: no stack is given and no memory is shared, and this process has one thread,
    // so the copy has everything it had.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, unused, unused, unused, unused) };
    Ok(i32::try_from(Errno::result(pid)?).ok().filter(|pid| *pid != 0))
}

/// Tells the parent, on standard output, which process is the worker.
fn announce(pid: i32) -> Result<(), JailError> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{pid}").and_then(|()| stdout.flush()).map_err(JailError::Announce)
}
