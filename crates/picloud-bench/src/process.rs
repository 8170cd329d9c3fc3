//! What the kernel knows of processes: CPU time, memory, wake-ups, children.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;

/// Ticks per second in `/proc`: `USER_HZ` is 100 on every architecture we run on.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time that was used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl Cpu {
    /// Of several processes together. One that has ended meanwhile counts nothing.
    pub(crate) fn of(pids: &[u32]) -> Self {
        pids.iter().filter_map(|pid| stat(*pid)).fold(Self::default(), |sum, stat| sum.and(stat.cpu))
    }

    /// Of the children that a process has seen end, up to now.
    pub(crate) fn of_ended_children(pid: u32) -> Self {
        stat(pid).map_or_else(Self::default, |stat| stat.ended_children)
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self { user: self.user + other.user, system: self.system + other.system }
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }
}

/// Resident memory in KiB: all of it, and with shared pages divided among those who share them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident_kib: u64,
    pub(crate) proportional_kib: Option<u64>,
}

pub(crate) fn memory(pid: u32) -> anyhow::Result<Memory> {
    let status = read(pid, "status")?;
    let resident_kib = field(&status, "VmRSS:").with_context(|| format!("process {pid} has no memory"))?;
    // Not readable for a process that gave up being inspected, unless we are root.
    let proportional_kib = read(pid, "smaps_rollup").ok().and_then(|text| field(&text, "Pss:"));
    Ok(Memory { resident_kib, proportional_kib })
}

/// Has the kernel take the present resident set for the largest that a process had.
pub(crate) fn forget_peak(pid: u32) -> anyhow::Result<()> {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5")
        .with_context(|| format!("the peak of process {pid} cannot be forgotten"))
}

/// The largest resident set that a process had.
pub(crate) fn peak_kib(pid: u32) -> anyhow::Result<u64> {
    field(&read(pid, "status")?, "VmHWM:").with_context(|| format!("process {pid} has no peak"))
}

/// How often each thread of a process went to sleep or was taken off its core, by thread id.
pub(crate) fn switches(pid: u32) -> anyhow::Result<BTreeMap<u32, u64>> {
    let threads =
        std::fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} has gone"))?;
    let ids = threads.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    Ok(ids
        .filter_map(|id| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/task/{id}/status")).ok()?;
            let voluntary = field(&status, "voluntary_ctxt_switches:")?;
            Some((id, voluntary + field(&status, "nonvoluntary_ctxt_switches:")?))
        })
        .collect())
}

/// Switches between two looks. A thread that ended in between took at least one to do so.
pub(crate) fn switches_between(before: &BTreeMap<u32, u64>, after: &BTreeMap<u32, u64>) -> u64 {
    let went_on: u64 =
        after.iter().map(|(id, count)| count.saturating_sub(before.get(id).copied().unwrap_or(0))).sum();
    let ended = before.keys().filter(|id| !after.contains_key(id)).count();
    went_on + ended as u64
}

/// Children of a process, and theirs.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.parent)))
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.remove(0);
    found
}

/// The words of a process's command line.
pub(crate) fn command_line(pid: u32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// What the kernel calls a process.
pub(crate) fn name(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

struct Stat {
    parent: u32,
    cpu: Cpu,
    ended_children: Cpu,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name is in brackets and may hold brackets and spaces itself, so fields count from its end.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let time = |at| ticks(at).map(|ticks| Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND));
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        cpu: Cpu { user: time(11)?, system: time(12)? },
        ended_children: Cpu { user: time(13)?, system: time(14)? },
    })
}

fn read(pid: u32, file: &str) -> anyhow::Result<String> {
    let path = format!("/proc/{pid}/{file}");
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
}

/// The number after a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let text = "12 (a) b (c) S 7 12 12 0 -1 4194560 1 2 3 4 150 25 9 8 20 0 1 0 99 1 1";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.parent, stat.cpu.user.as_millis(), stat.cpu.system.as_millis()), (7, 1_500, 250));
        let ended = stat.ended_children;
        assert_eq!((ended.user.as_millis(), ended.system.as_millis()), (90, 80));
    }

    #[test]
    fn an_ended_thread_counts_as_one_switch_and_a_new_one_with_all_of_its_own() {
        let before = BTreeMap::from([(1, 10), (2, 5)]);
        let after = BTreeMap::from([(1, 13), (3, 4)]);
        assert_eq!(switches_between(&before, &after), 3 + 4 + 1);
    }

    #[test]
    fn this_process_has_memory_a_thread_and_a_command_line() {
        let me = std::process::id();
        assert!(memory(me).unwrap().resident_kib > 100);
        assert!(!switches(me).unwrap().is_empty());
        assert!(!command_line(me).is_empty());
    }
}
