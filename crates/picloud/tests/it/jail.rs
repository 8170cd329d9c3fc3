//! What a worker has, seen from outside. Steps of the jail are listed in `docs/jail.md`.

use std::collections::BTreeSet;
use std::fs;

use nix::unistd::geteuid;

use crate::harness::{TestServer, print_row, process};

const PAGE: &str = include_str!("../../../../docs/jail.md");
/// In the example of the page: the worker's id outside, and the first one that workers have as a user's.
const PAGE_PID: u32 = 7_580;
const PAGE_USER: u32 = FIRST_ID + PAGE_PID;
const FIRST_ID: u32 = 2_000_000_000;

fn status(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line =
        status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap_or_default();
    line.trim().to_owned()
}

#[test]
fn a_worker_cannot_gain_privileges_and_has_one_thread() {
    let server = TestServer::shared();
    server.client.get("localhost", "/hello/pi").is(200);
    for worker in server.workers() {
        assert_eq!(status(worker, "NoNewPrivs"), "1");
        assert_eq!(status(worker, "Threads"), "1");
    }
}

/// The page shows a worker of a server that root started. It is demanded wherever root has the rights that it takes,
/// whatever the worker itself says that it lacks.
#[test]
fn a_worker_of_root_has_the_status_that_the_page_shows_line_by_line() {
    /// `CAP_SETGID`, `CAP_SETUID`, `CAP_SETPCAP` and `CAP_SYS_ADMIN`, by their numbers.
    const RIGHTS: u64 = (1 << 6) | (1 << 7) | (1 << 8) | (1 << 21);
    let own = std::process::id();
    let rights = u64::from_str_radix(&status(own, "CapEff"), 16).unwrap();
    // One line, of all ids that there are.
    let has_ids = |map: &str| {
        let map = fs::read_to_string(format!("/proc/self/{map}")).unwrap();
        map.split_whitespace().eq(["0", "0", "4294967295"])
    };
    if !geteuid().is_root() || rights & RIGHTS != RIGHTS || !["uid_map", "gid_map"].into_iter().all(has_ids) {
        eprintln!("SKIPPED: this user can give workers neither users nor namespaces, or not all");
        return;
    }
    let (_, section) = PAGE.split_once("\n## A worker's status").unwrap();
    let example = section.split("```").nth(1).unwrap();
    let server = TestServer::shared();
    server.client.get("localhost", "/hello/pi").is(200);
    // A filter comes on top of those that the server has.
    let inherited: u32 = status(own, "Seccomp_filters").parse().unwrap_or_default();
    for worker in server.workers() {
        for line in example.lines().filter(|line| !line.is_empty()) {
            let (field, shown) = line.split_once(':').unwrap();
            let expected = shown.split_whitespace().map(|word| match word.parse::<u32>() {
                Ok(PAGE_PID) => worker.to_string(),
                Ok(PAGE_USER) => (FIRST_ID + worker).to_string(),
                Ok(filters) if field == "Seccomp_filters" => (filters + inherited).to_string(),
                _ => word.to_owned(),
            });
            let seen = status(worker, field);
            // Kernels before Linux 5.9 do not say how many filters there are.
            let is_unsaid = field == "Seccomp_filters" && seen.is_empty();
            assert!(is_unsaid || seen.split_whitespace().eq(expected), "{line}: {seen}");
        }
    }
}

#[test]
fn attack_46_a_worker_has_no_environment_and_four_descriptors() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: a worker's environment and descriptors can be read by root alone");
        return;
    }
    let server = TestServer::shared();
    server.client.get("localhost", "/hello/pi").is(200);
    for worker in server.workers() {
        assert_eq!(fs::read(format!("/proc/{worker}/environ")).unwrap(), b"", "environment");
        let descriptors = fs::read_dir(format!("/proc/{worker}/fd")).unwrap();
        let descriptors: BTreeSet<u32> = descriptors
            .map(|entry| entry.unwrap().file_name().into_string().unwrap().parse().unwrap())
            .collect();
        let target = |fd: u32| fs::read_link(format!("/proc/{worker}/fd/{fd}")).unwrap();
        print_row("46", "seen from outside", "0 to 3", &format!("{descriptors:?}"));
        assert_eq!(descriptors, (0..=3).collect());
        assert_eq!((target(0), target(1)), ("/dev/null".into(), "/dev/null".into()));
        assert!(target(2).to_string_lossy().starts_with("pipe:"), "{:?}", target(2));
        assert!(target(3).to_string_lossy().starts_with("socket:"), "{:?}", target(3));
    }
}

/// It keeps the rights that its copies need for their walls. So it has nothing that could be taken from it, and hears
/// nobody but the server.
#[test]
fn attack_what_workers_are_copies_of_has_no_environment_and_four_descriptors() {
    let server = TestServer::shared();
    // It has more while it makes one.
    server.workers();
    let zygote = process::zygote(server.pid()).unwrap();
    assert_eq!(status(zygote, "Threads"), "1");
    assert_eq!(fs::read(format!("/proc/{zygote}/environ")).unwrap(), b"", "environment");
    let descriptors = fs::read_dir(format!("/proc/{zygote}/fd")).unwrap();
    let targets: Vec<_> =
        descriptors.map(|entry| fs::read_link(entry.unwrap().path()).unwrap().into_os_string()).collect();
    let count =
        |start: &str| targets.iter().filter(|target| target.to_string_lossy().starts_with(start)).count();
    assert_eq!((count("/dev/null"), count("pipe:"), count("socket:"), targets.len()), (2, 1, 1, 4));
}

#[test]
fn a_worker_has_its_code_from_the_process_that_it_is_a_copy_of() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: where a worker has its code can be read by root alone");
        return;
    }
    let server = TestServer::shared();
    let code = |pid: u32| -> BTreeSet<String> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let executable = maps.lines().filter(|line| line.contains(" r-xp "));
        executable.map(|line| line.split_once(' ').unwrap().0.to_owned()).collect()
    };
    let zygote = code(process::zygote(server.pid()).unwrap());
    assert!(zygote.len() > 2, "{zygote:?}");
    for worker in server.workers() {
        assert_eq!(code(worker), zygote);
    }
}

#[test]
fn a_worker_has_every_limit() {
    let server = TestServer::shared();
    for worker in server.workers() {
        let limits = fs::read_to_string(format!("/proc/{worker}/limits")).unwrap();
        let hard_and_soft = |name: &str| {
            let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().take(2).map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(hard_and_soft("Max core file size"), ["0", "0"]);
        assert_eq!(hard_and_soft("Max open files"), ["4", "4"]);
        assert_eq!(hard_and_soft("Max file size"), ["0", "0"]);
        assert_eq!(hard_and_soft("Max locked memory"), ["0", "0"]);
        assert_eq!(hard_and_soft("Max msgqueue size"), ["0", "0"]);
        assert_eq!(hard_and_soft("Max processes"), ["1", "1"]);
        assert_eq!(hard_and_soft("Max realtime priority"), ["0", "0"]);
        assert!(!hard_and_soft("Max data size").contains(&"unlimited".to_owned()), "{limits}");
    }
}
