//! Behind all walls, the first forbidden system call is the last.

use shared::wire::worker::Layers;

use super::{Row, expect_all};

/// As many layers as this machine has: the filter is there on every one.
fn killed(attacks: &[&str]) {
    let layers = super::Hostile::start(Layers::ALL, "nothing", "").held;
    assert!(layers.contains(Layers::SYSTEM_CALL_FILTER), "{layers}");
    let missing = Layers::ALL.without(layers);
    if missing != Layers::NONE {
        eprintln!("SKIPPED: {missing}, which this machine or this user lacks");
    }
    // What the harness itself does is allowed, so that what ends the others is their attack.
    let harmless = Row { attack: "nothing", target: "1", layers, expected: "done" };
    let rows = attacks.iter().map(|attack| Row { attack, target: "1", layers, expected: "SIGSYS" });
    expect_all(&std::iter::once(harmless).chain(rows).collect::<Vec<_>>());
}

#[test]
fn a_worker_that_reaches_for_the_network_is_killed() {
    killed(&[
        "socket-inet",
        "socket-unix",
        "socket-netlink",
        "socket-vsock",
        "connect-on-the-socket",
        "connect-tcp",
        "connect-abstract",
        "send-out-of-band",
        "receive-out-of-band",
        "pass-a-descriptor",
        "io-uring",
    ]);
}

#[test]
fn a_worker_that_reaches_for_files_is_killed() {
    killed(&[
        "open-passwd",
        "open-environment",
        "open-memory-of-1",
        "open-own-memory",
        "create-file",
        "openat2",
        "name-to-handle",
        "open-by-handle",
        "more-descriptors",
        "descriptors",
    ]);
}

#[test]
fn a_worker_that_reaches_for_other_processes_is_killed() {
    killed(&[
        "trace-parent",
        "read-parent",
        "signal-parent",
        "abort-parent",
        "pidfd-of-parent",
        "signal-sibling",
        "read-sibling",
        "trace-sibling",
        "abort-sibling",
        "pidfd-of-sibling",
        "stop-oneself",
    ]);
}

#[test]
fn a_worker_that_makes_a_process_or_becomes_another_program_is_killed() {
    killed(&["fork", "thread", "clone3", "execute", "execute-from-memory"]);
}

#[test]
fn a_worker_that_makes_code_is_killed() {
    killed(&[
        "map-executable",
        "make-executable",
        "overwrite-code",
        "change-key-of-code",
        "move-code",
        "personality",
    ]);
}

/// Giving memory back is on the list; code is not memory that can be given back.
#[test]
fn a_worker_that_unmaps_its_code_is_refused() {
    let layers = super::Hostile::start(Layers::ALL, "nothing", "").held;
    if !layers.contains(Layers::SEALED_CODE) {
        eprintln!("SKIPPED: sealed code, which this machine lacks");
        return;
    }
    expect_all(&[Row { attack: "unmap-code", target: "", layers, expected: "EPERM" }]);
}

#[test]
fn a_worker_that_reaches_for_the_machine_is_killed() {
    killed(&[
        "describe-shared-memory",
        "rename-machine",
        "find-control-groups",
        "speculate",
        "meet-on-a-core",
    ]);
}

#[test]
fn a_worker_that_wants_rights_back_is_killed() {
    killed(&["regain-rights", "mount", "new-namespaces", "borrow-rights", "regain-by-program"]);
}
