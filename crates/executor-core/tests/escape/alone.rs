//! Each wall alone, with the others off: none is decoration.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use shared::wire::worker::Layers;

use super::{Hostile, Row, Sibling, expect_all, expect_all_beside, print_row};

/// What a namespace needs to be left at all, for this user.
pub(crate) fn with_rights(layers: Layers) -> Layers {
    // Root may make namespaces; others need one of users first.
    if geteuid().is_root() { layers } else { layers | Layers::USER_NAMESPACE }
}

pub(crate) fn row<'a>(attack: &'a str, target: &'a str, layers: Layers, expected: &'a str) -> Row<'a> {
    Row { attack, target, layers, expected }
}

#[test]
fn an_empty_root_alone_hides_all_files() {
    let walls = with_rights(Layers::MOUNT_NAMESPACE) | Layers::EMPTY_ROOT;
    expect_all(&[
        row("open-passwd", "", Layers::NONE, "done"),
        row("open-passwd", "", walls, "ENOENT"),
        row("open-environment", "", walls, "ENOENT"),
        row("open-memory-of-1", "", walls, "ENOENT"),
        row("openat2", "", Layers::NONE, "done"),
        row("openat2", "", walls, "ENOENT"),
        row("name-to-handle", "", Layers::NONE, "done"),
        row("name-to-handle", "", walls, "ENOENT"),
        row("create-file", "", walls, "EROFS"),
        row("execute", "", walls, "ENOENT"),
    ]);
}

#[test]
fn landlock_alone_denies_files_ports_and_other_processes() {
    let name = format!("picloud-escape-landlock-{}", std::process::id());
    let _abstract = listen_abstract(&name);
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port().to_string();
    let walls = Layers::NO_NEW_PRIVILEGES | Layers::LANDLOCK;
    expect_all(&[
        row("open-passwd", "", walls, "EACCES"),
        row("openat2", "", walls, "EACCES"),
        row("create-file", "", walls, "EACCES"),
        row("execute", "", walls, "EACCES"),
        row("read-parent", "", walls, "EPERM"),
        row("trace-parent", "", walls, "EPERM"),
    ]);
    let version = executor_core::jail::landlock_version();
    if version >= 4 {
        expect_all(&[row("connect-tcp", &port, walls, "EACCES")]);
    } else {
        eprintln!("SKIPPED: Landlock {version} does not know ports");
    }
    if version >= 6 {
        expect_all(&[
            row("connect-abstract", &name, walls, "EPERM"),
            row("signal-parent", "", walls, "EPERM"),
        ]);
    } else {
        eprintln!("SKIPPED: Landlock {version} does not know signals and abstract sockets");
    }
}

#[test]
fn a_network_namespace_alone_leads_nowhere() {
    let name = format!("picloud-escape-network-{}", std::process::id());
    let _abstract = listen_abstract(&name);
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port().to_string();
    let walls = with_rights(Layers::NETWORK_NAMESPACE);
    expect_all(&[
        row("connect-tcp", &port, Layers::NONE, "done"),
        row("connect-abstract", &name, Layers::NONE, "done"),
        row("connect-tcp", &port, walls, "ENETUNREACH"),
        row("connect-abstract", &name, walls, "ECONNREFUSED"),
    ]);
}

fn listen_abstract(name: &str) -> UnixListener {
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap()
}

#[test]
fn a_user_of_its_own_alone_keeps_a_worker_from_other_processes() {
    let walls = Layers::OWN_USER | Layers::NO_CAPABILITIES;
    expect_all(&[
        row("signal-parent", "", Layers::NONE, "done"),
        row("signal-parent", "", walls, "EPERM"),
        row("read-parent", "", walls, "EPERM"),
        row("trace-parent", "", walls, "EPERM"),
    ]);
}

#[test]
fn a_namespace_of_processes_alone_hides_all_others() {
    let walls = with_rights(Layers::PROCESS_NAMESPACE);
    expect_all(&[
        row("signal-parent", "", Layers::NONE, "done"),
        row("pidfd-of-parent", "", Layers::NONE, "done"),
        row("signal-parent", "", walls, "ESRCH"),
        row("abort-parent", "", walls, "ESRCH"),
        row("read-parent", "", walls, "ESRCH"),
        row("trace-parent", "", walls, "ESRCH"),
        row("pidfd-of-parent", "", walls, "ESRCH"),
    ]);
}

/// The other worker has all its walls; the hostile one has one. Who is aimed at is who is asked meanwhile.
#[test]
fn one_wall_alone_keeps_a_worker_from_the_one_beside_it() {
    let mut sibling = Sibling::start();
    let pid = sibling.pid();
    if geteuid().is_root() {
        let rows = [
            row("signal-sibling", &pid, Layers::NONE, "done"),
            row("read-sibling", &pid, Layers::NONE, "done"),
            row("trace-sibling", &pid, Layers::NONE, "done"),
            row("pidfd-of-sibling", &pid, Layers::NONE, "done"),
        ];
        expect_all_beside(&mut sibling, &rows);
    }
    let own_user = Layers::OWN_USER | Layers::NO_CAPABILITIES;
    let mut rows = Vec::new();
    for attack in ["signal-sibling", "abort-sibling", "read-sibling", "trace-sibling"] {
        rows.push(row(attack, &pid, own_user, "EPERM"));
        rows.push(row(attack, &pid, with_rights(Layers::PROCESS_NAMESPACE), "ESRCH"));
    }
    expect_all_beside(&mut sibling, &rows);
}

#[test]
fn a_user_namespace_alone_keeps_a_worker_from_tracing_its_parent() {
    expect_all(&[
        row("read-parent", "", Layers::USER_NAMESPACE, "EPERM"),
        row("trace-parent", "", Layers::USER_NAMESPACE, "EPERM"),
    ]);
    if geteuid().is_root() {
        // Others may be forbidden to trace whatever this does. Whoever is traced is let go as the worker ends.
        expect_all(&[
            row("read-parent", "", Layers::NONE, "done"),
            row("trace-parent", "", Layers::NONE, "done"),
        ]);
    }
}

/// Neither a parent nor a worker that others need may be ended, so it is somebody else whom the same call is aimed at.
#[test]
fn without_walls_a_worker_ends_another_process() {
    let mut victim = Command::new("sleep").arg("600").spawn().unwrap();
    expect_all(&[row("abort-sibling", &victim.id().to_string(), Layers::NONE, "done")]);
    assert_eq!(victim.wait().unwrap().signal(), Some(Signal::SIGABRT as i32));
}

#[test]
fn dropped_capabilities_alone_do_not_come_back() {
    if geteuid().is_root() {
        // Nobody else has any.
        expect_all(&[row("regain-rights", "", Layers::NONE, "done")]);
    }
    // On a root of its own, so that what it mounts covers nothing of the machine's.
    let apart = with_rights(Layers::MOUNT_NAMESPACE) | Layers::EMPTY_ROOT;
    expect_all(&[
        row("regain-rights", "", Layers::NO_CAPABILITIES, "EPERM"),
        row("mount", "", apart, "done"),
        row("mount", "", apart | Layers::NO_CAPABILITIES, "EPERM"),
        row("mount", "", Layers::NO_CAPABILITIES, "EPERM"),
    ]);
}

#[test]
fn not_being_dumpable_alone_hides_memory_from_the_file_system() {
    // The files then belong to root, so root has to be somebody else first.
    let user = if geteuid().is_root() { Layers::OWN_USER | Layers::NO_CAPABILITIES } else { Layers::NONE };
    let walls = user | Layers::NOT_DUMPABLE;
    expect_all(&[
        row("open-own-memory", "", Layers::NONE, "done"),
        row("open-own-memory", "", walls, "EACCES"),
    ]);
}

#[test]
fn refusing_new_code_alone_stops_executable_memory() {
    expect_all(&[
        row("map-executable", "", Layers::NONE, "done"),
        row("make-executable", "", Layers::NONE, "done"),
        row("overwrite-code", "", Layers::NONE, "done"),
        row("map-executable", "", Layers::NO_NEW_CODE, "EACCES"),
        row("make-executable", "", Layers::NO_NEW_CODE, "EACCES"),
    ]);
    for attack in ["change-key-of-code", "personality"] {
        if succeeds_without_walls(attack) {
            expect_all(&[row(attack, "", Layers::NO_NEW_CODE, "EACCES")]);
        }
    }
}

/// Not every kernel has these calls, and containers forbid some.
fn succeeds_without_walls(attack: &str) -> bool {
    let seen = Hostile::start(Layers::NONE, attack, "").seen();
    if seen != "done" {
        eprintln!("SKIPPED: {attack}, which comes to {seen} here without any wall");
    }
    seen == "done"
}

#[test]
fn sealed_code_alone_stays_as_it_is() {
    expect_all(&[
        row("overwrite-code", "", Layers::SEALED_CODE, "EPERM"),
        row("unmap-code", "", Layers::SEALED_CODE, "EPERM"),
        row("move-code", "", Layers::SEALED_CODE, "EPERM"),
    ]);
    if succeeds_without_walls("change-key-of-code") {
        expect_all(&[row("change-key-of-code", "", Layers::SEALED_CODE, "EPERM")]);
    }
}

#[test]
fn the_filter_alone_kills_every_call_that_is_not_on_its_list() {
    let mut sweep = std::process::Command::new(env!("CARGO_BIN_EXE_hostile-worker"));
    sweep.arg("sweep").env_clear().stdin(std::process::Stdio::null());
    let mut sibling = Sibling::start();
    let output = sibling.beside(|| sweep.output().unwrap());
    sibling.is_well();
    let seen = String::from_utf8(output.stderr).unwrap();
    let arguments = executor_core::jail::RULES.iter().flat_map(|rule| rule.arguments);
    // Those of 64 bits are wrong in two ways.
    let wrong: usize = arguments.map(|argument| if argument.1.is_wide() { 2 } else { 1 }).sum();
    let allowed = executor_core::jail::RULES.len();
    let never_filtered = if cfg!(target_arch = "x86_64") { 2 } else { 0 };
    let killed = 2 * 501 - never_filtered - allowed + wrong;
    let expected = format!("seen {killed} killed, {allowed} allowed");
    print_row("system calls 0 to 500", "the filter, also against their x32 twins", &expected, seen.trim());
    print_row("the sibling", "beside that", "well", &sibling.to_string());
    assert_eq!(seen.trim(), expected);
}

/// The socket itself is the worker's to use: whether it may be used this way, only the filter says.
#[test]
fn the_filter_alone_stops_bytes_out_of_band() {
    let walls = Layers::SYSTEM_CALL_FILTER | Layers::NO_NEW_PRIVILEGES;
    expect_all(&[
        row("send-out-of-band", "", walls, "SIGSYS"),
        row("receive-out-of-band", "", walls, "SIGSYS"),
    ]);
    if succeeds_without_walls("send-out-of-band") {
        // There is none to receive, which is another answer than that there can be none.
        expect_all(&[row("receive-out-of-band", "", Layers::NONE, "EINVAL")]);
    }
}

#[test]
fn a_layer_that_was_not_asked_for_is_not_claimed() {
    assert_eq!(Hostile::start(Layers::NONE, "nothing", "").held, Layers::NONE);
}
