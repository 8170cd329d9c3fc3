//! What a worker has, seen from outside. Steps of the jail are listed in `docs/jail.md`.

use std::collections::BTreeSet;
use std::fs;

use nix::unistd::geteuid;

use crate::harness::{TestServer, print_row};

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
