//! Steps 6 and 8: the worker leaves what it shares with the rest of the machine.

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use shared::wire::worker::Layers;

use super::Jail;

const KINDS: [(Layers, CloneFlags); 5] = [
    // A file system view of its own, which step 7 empties.
    (Layers::MOUNT_NAMESPACE, CloneFlags::CLONE_NEWNS),
    // No network device but a loopback that is down; no abstract sockets of others.
    (Layers::NETWORK_NAMESPACE, CloneFlags::CLONE_NEWNET),
    // No shared memory, semaphores or message queues of others.
    (Layers::IPC_NAMESPACE, CloneFlags::CLONE_NEWIPC),
    // The machine's name cannot be changed.
    (Layers::UTS_NAMESPACE, CloneFlags::CLONE_NEWUTS),
    // Where in the control groups it stands cannot be seen.
    (Layers::CGROUP_NAMESPACE, CloneFlags::CLONE_NEWCGROUP),
];

/// Step 6. Whoever may not make namespaces gets that right by making a user namespace first, where
/// the kernel's administrator allows it.
pub(super) fn leave(jail: &mut Jail) {
    let wanted = KINDS.iter().filter(|(layer, _)| jail.wanted.contains(*layer));
    let (layers, flags) = wanted
        .fold((Layers::NONE, CloneFlags::empty()), |(layers, flags), kind| (layers | kind.0, flags | kind.1));
    if flags.is_empty() {
        return;
    }
    if unshare(flags).is_ok() {
        jail.held |= layers;
        return;
    }
    if jail.wanted.contains(Layers::USER_NAMESPACE) && leave_user_namespace().is_ok() {
        jail.held |= Layers::USER_NAMESPACE;
    }
    // All at once is quicker; one by one gets those that this kernel has.
    if unshare(flags).is_ok() {
        jail.held |= layers;
        return;
    }
    for (layer, flag) in KINDS {
        jail.attempt(layer, || unshare(flag));
    }
}

/// Step 8. For a worker that did not need one in step 6: what rights it might ever regain would be
/// over nothing.
pub(super) fn leave_users(jail: &mut Jail) {
    if !jail.held.contains(Layers::USER_NAMESPACE) {
        jail.attempt(Layers::USER_NAMESPACE, leave_user_namespace);
    }
}

/// No id is mapped: inside, the worker and everybody else are "nobody", and it can become no one.
fn leave_user_namespace() -> Result<(), Errno> {
    unshare(CloneFlags::CLONE_NEWUSER)
}
