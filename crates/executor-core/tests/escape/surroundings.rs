//! The walls that stand for less than files and networks, each alone too.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::geteuid;
use shared::wire::worker::Layers;

use super::alone::{row, with_rights};
use super::{Hostile, Sibling, expect_all, expect_all_beside};

#[test]
fn an_ipc_namespace_alone_hides_shared_memory() {
    let Some(memory) = SharedMemory::create() else { return };
    expect_all(&[
        row("describe-shared-memory", &memory.number, Layers::NONE, "done"),
        row("describe-shared-memory", &memory.number, with_rights(Layers::IPC_NAMESPACE), "EINVAL"),
    ]);
}

/// A piece of System V shared memory, as old servers have them.
struct SharedMemory {
    number: String,
}

impl SharedMemory {
    fn create() -> Option<Self> {
        let made = Command::new("ipcmk").args(["-M", "4096", "-p", "0600"]).output().ok()?;
        let text = String::from_utf8(made.stdout).unwrap();
        let number = text.trim().rsplit(' ').next().filter(|number| number.parse::<u32>().is_ok());
        if number.is_none() {
            eprintln!("SKIPPED: ipcmk makes no shared memory here: {text}");
        }
        number.map(|number| Self { number: number.to_owned() })
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        let _ = Command::new("ipcrm").args(["-m", &self.number]).status();
    }
}

#[test]
fn a_uts_namespace_alone_keeps_the_machines_name() {
    let name = machines_name();
    if geteuid().is_root() {
        // By the name it has, so that nothing is harmed.
        expect_all(&[row("rename-machine", &name, Layers::NONE, "done")]);
    }
    expect_all(&[row("rename-machine", "taken-over", with_rights(Layers::UTS_NAMESPACE), "done")]);
    assert_eq!(machines_name(), name, "the machine was renamed");
}

fn machines_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim_end().to_owned()
}

#[test]
fn a_control_group_namespace_alone_hides_where_a_worker_is() {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
    if groups.lines().all(|line| line.ends_with(":/")) {
        eprintln!("SKIPPED: these tests are in no control group of their own");
        return;
    }
    expect_all(&[
        row("find-control-groups", "", Layers::NONE, "shown"),
        row("find-control-groups", "", with_rights(Layers::CGROUP_NAMESPACE), "hidden"),
    ]);
}

#[test]
fn no_new_privileges_alone_makes_nobody_root() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root can make a program that makes others root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (program, secret) = (dir.path().join("cat"), dir.path().join("secret"));
    fs::copy("/bin/cat", &program).unwrap();
    fs::write(&secret, "secret").unwrap();
    for (path, mode) in [(dir.path(), 0o755), (&program, 0o4755), (&secret, 0o600)] {
        let path: &Path = path;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let target = format!("{}:{}", program.display(), secret.display());
    let user = Layers::OWN_USER | Layers::NO_CAPABILITIES;
    expect_all(&[
        row("borrow-rights", &target, user, "done"),
        row("borrow-rights", &target, user | Layers::NO_NEW_PRIVILEGES, "refused"),
    ]);
}

#[test]
fn an_empty_bounding_set_alone_gives_no_rights_back() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only a program of root's gets rights by being run");
        return;
    }
    expect_all(&[
        row("regain-by-program", "", Layers::NO_CAPABILITIES, "done"),
        row("regain-by-program", "", Layers::NO_CAPABILITIES | Layers::EMPTY_BOUNDING_SET, "none"),
    ]);
}

#[test]
fn speculation_that_is_off_alone_stays_off() {
    let seen = Hostile::start(Layers::NONE, "speculate", "").seen();
    if ["ENXIO", "ENODEV"].contains(&seen.as_str()) {
        eprintln!("SKIPPED: here no process decides whether the processor runs ahead: {seen}");
        return;
    }
    expect_all(&[
        row("speculate", "", Layers::NONE, "done"),
        row("speculate", "", Layers::NO_SPECULATION, "EPERM"),
    ]);
}

/// Who shares a core may learn from the time things take what the other one does.
#[test]
fn a_core_of_its_own_alone_keeps_a_worker_apart_from_its_parent_and_from_the_one_beside_it() {
    let parent = std::process::id().to_string();
    if let Some(reason) = nobody_meets(&parent) {
        eprintln!("SKIPPED: {reason}");
        return;
    }
    // The one beside it has such a core too, so the two must not be given the same.
    let mut sibling = Sibling::start();
    let pid = sibling.pid();
    let mut rows = vec![
        row("meet-on-a-core", &parent, Layers::NONE, "done"),
        row("meet-on-a-core", &parent, Layers::OWN_CORE, "apart"),
    ];
    if geteuid().is_root() {
        // Others may not ask about a process that is not dumpable.
        rows.push(row("meet-on-a-core", &pid, Layers::OWN_CORE, "apart"));
    }
    expect_all_beside(&mut sibling, &rows);
}

/// Why two processes are never on one core here, or nobody can say whether they are.
fn nobody_meets(parent: &str) -> Option<&'static str> {
    match Hostile::start(Layers::NONE, "meet-on-a-core", parent).seen().as_str() {
        "ENODEV" => Some("no core of this machine runs two programs at once"),
        "EINVAL" => Some("this kernel cannot keep programs apart on a core (CONFIG_SCHED_CORE)"),
        "EPERM" => Some("nobody may ask who shares a core here, as in some containers"),
        _ => None,
    }
}
