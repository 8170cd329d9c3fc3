//! How many workers there is memory for, and how much of it one may take, and bodies of requests. What there is: the
//! machine's, or what the control groups around the server leave of it, such as a container's or a unit's.

use std::fs;
use std::path::Path;

use shared::limits::BODIES_BYTES_MIN;

/// What a worker takes that has run scripts and waits for more, with room to spare.
const WORKER_KIB: u64 = 16 << 10;
/// Share of the memory for workers that wait, and another for bodies: the rest is for those that work, and for
/// PostgreSQL.
const SHARE: u64 = 8;
/// More owners than this are hardly active at the same time on one machine.
const WORKERS_MAX: usize = 64;
/// When the machine does not say how much it has.
const ASSUMED_KIB: u64 = 1 << 20;
/// Where the kernel's files are.
const ROOT: &str = "/";

/// Most workers at once: at least one more than always run, or one owner could have them all.
pub fn workers_max(always: usize) -> usize {
    room(available_kib(Path::new(ROOT))).max(always + 1)
}

/// Most memory of one worker: half of what there is. Executions start in it while their limits come to less; a control
/// group, where there is one, holds it to that whatever it does.
pub fn worker_bytes_max() -> u64 {
    available_kib(Path::new(ROOT)) * 1024 / 2
}

/// Most memory of bodies of requests.
pub fn body_bytes_max() -> u64 {
    (available_kib(Path::new(ROOT)) * 1024 / SHARE).max(BODIES_BYTES_MIN)
}

fn room(total_kib: u64) -> usize {
    usize::try_from(total_kib / SHARE / WORKER_KIB).unwrap_or(WORKERS_MAX).min(WORKERS_MAX)
}

fn available_kib(root: &Path) -> u64 {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok();
    let machine = meminfo.and_then(|text| total_kib(&text)).unwrap_or(ASSUMED_KIB);
    group_bytes(root).map_or(machine, |bytes| machine.min(bytes / 1024))
}

fn total_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The least that a control group of this process may take, of version 2 or 1.
fn group_bytes(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let limits = groups.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, group) = rest.split_once(':')?;
        if controllers.is_empty() {
            return least(&root.join("sys/fs/cgroup"), group, "memory.max");
        }
        let is_memory = controllers.split(',').any(|controller| controller == "memory");
        is_memory.then(|| least(&root.join("sys/fs/cgroup/memory"), group, "memory.limit_in_bytes")).flatten()
    });
    limits.min()
}

/// The least of the limits of a group and of those above it. A container may see only the upper part of its own path, or
/// itself as the uppermost group; what cannot be read limits nothing.
fn least(hierarchy: &Path, group: &str, file: &str) -> Option<u64> {
    let groups = Path::new(group.trim_start_matches('/')).ancestors();
    let limits = groups.filter_map(|group| {
        // Without a limit it says "max".
        let limit = fs::read_to_string(hierarchy.join(group).join(file)).ok()?;
        limit.trim().parse().ok()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_small_board_keeps_few_workers_and_a_large_machine_not_thousands() {
        assert_eq!(total_kib("MemFree: 1 kB\nMemTotal:        1048576 kB\n"), Some(1 << 20));
        assert_eq!((room(1 << 20), room(4 << 20), room(1 << 30)), (8, 32, WORKERS_MAX));
        assert!(workers_max(200) == 201);
    }

    /// What there is, in MiB, on a machine of 64 GiB that says this of its control groups.
    fn available_mib(own: &str, limits: &[(&str, &str)]) -> u64 {
        let root = tempfile::tempdir().unwrap();
        let meminfo = ("proc/meminfo", "MemTotal:       67108864 kB\n");
        for (path, text) in [meminfo, ("proc/self/cgroup", own)].iter().chain(limits) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        available_kib(root.path()) * 1024 / MIB
    }

    #[test]
    fn a_container_or_a_unit_has_no_more_memory_than_its_control_groups_leave() {
        let half_a_gib = "536870912\n";
        let group = "sys/fs/cgroup/system.slice/picloud.service/memory.max";
        let above = "sys/fs/cgroup/system.slice/memory.max";
        let unit = "0::/system.slice/picloud.service\n";
        assert_eq!(available_mib(unit, &[(group, half_a_gib)]), 512);
        assert_eq!(available_mib(unit, &[(group, "max\n"), (above, half_a_gib)]), 512);
        assert_eq!(available_mib(unit, &[(group, half_a_gib), (above, "1073741824\n")]), 512);
        // By itself a container is the uppermost group.
        assert_eq!(available_mib("0::/\n", &[("sys/fs/cgroup/memory.max", half_a_gib)]), 512);
        let first = "sys/fs/cgroup/memory/memory.limit_in_bytes";
        let docker = "12:cpu,cpuacct:/docker/1\n5:memory:/docker/1\n0::/docker/1\n";
        assert_eq!(available_mib(docker, &[(first, half_a_gib)]), 512);
    }

    #[test]
    fn without_a_limit_there_is_what_the_machine_has() {
        let all = 64 << 10;
        assert_eq!(available_mib("0::/unit\n", &[("sys/fs/cgroup/unit/memory.max", "max\n")]), all);
        assert_eq!(available_mib("0::/unit\n", &[("sys/fs/cgroup/unit/memory.max", "1099511627776\n")]), all);
        let none = [("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")];
        assert_eq!(available_mib("5:memory:/\n", &none), all);
        assert_eq!(available_mib("5:pids:/\n", &[("sys/fs/cgroup/memory.max", "1\n")]), all);
    }
}
