//! What the kernel says of this process.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

/// Numbers of one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessStatus {
    pub cpu_s: f64,
    pub resident_bytes: u64,
    pub threads: u64,
    pub descriptors: u64,
}

/// Nothing where there is no `/proc`.
pub fn read() -> Option<ProcessStatus> {
    let descriptors = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten()?;
    let page_bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten()?;
    parse(&fs::read_to_string("/proc/self/stat").ok()?, per_second, page_bytes, descriptors)
}

/// Fields of `/proc/self/stat` behind the name, which may hold anything up to the last parenthesis:
/// user and system time in ticks, threads, and resident pages.
fn parse(stat: &str, per_second: i64, page_bytes: i64, descriptors: u64) -> Option<ProcessStatus> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(ProcessStatus {
        cpu_s: (number(14)? + number(15)?) as f64 / per_second as f64,
        threads: number(20)?,
        resident_bytes: number(24)?.checked_mul(u64::try_from(page_bytes).ok()?)?,
        descriptors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_is_passed_over() {
        let stat = "7 (a) (b c) S 1 7 7 0 -1 0 1 2 3 4 150 50 0 0 20 0 9 0 100 1000 25 0";
        let status = parse(stat, 100, 4096, 3).unwrap();
        let expected = ProcessStatus { cpu_s: 2.0, threads: 9, resident_bytes: 25 * 4096, descriptors: 3 };
        assert_eq!(status, expected);
    }

    #[test]
    fn this_process_has_memory_and_threads() {
        let status = read().unwrap();
        assert!(status.resident_bytes > 1 << 20 && status.threads >= 1 && status.descriptors >= 3);
    }
}
