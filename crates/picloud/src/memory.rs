//! How many workers this machine's memory has room for, and how much of it one may take.

use std::fs;

/// What a worker takes that has run scripts and waits for more, with room to spare.
const WORKER_KIB: u64 = 16 << 10;
/// Share of the memory for workers that wait: the rest is for those that work, and for PostgreSQL.
const SHARE: u64 = 8;
/// More owners than this are hardly active at the same time on one machine.
const WORKERS_MAX: usize = 64;
/// When the machine does not say how much it has.
const ASSUMED_KIB: u64 = 1 << 20;

/// Most workers at once: at least one more than always run, or one owner could have them all.
pub fn workers_max(always: usize) -> usize {
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_kib(&text));
    room(total.unwrap_or(ASSUMED_KIB)).max(always + 1)
}

/// Most memory of one worker: half of the machine's. Executions start in it while their limits come to less; a control
/// group, where there is one, holds it to that whatever it does.
pub fn worker_bytes_max() -> u64 {
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_kib(&text));
    total.unwrap_or(ASSUMED_KIB) * 1024 / 2
}

fn room(total_kib: u64) -> usize {
    usize::try_from(total_kib / SHARE / WORKER_KIB).unwrap_or(WORKERS_MAX).min(WORKERS_MAX)
}

fn total_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_board_keeps_few_workers_and_a_large_machine_not_thousands() {
        assert_eq!(total_kib("MemFree: 1 kB\nMemTotal:        1048576 kB\n"), Some(1 << 20));
        assert_eq!((room(1 << 20), room(4 << 20), room(1 << 30)), (8, 32, WORKERS_MAX));
        assert!(workers_max(200) == 201);
    }
}
