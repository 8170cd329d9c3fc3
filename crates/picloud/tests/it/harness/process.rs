//! What `/proc` knows of the server and its workers.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufRead;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Processes whose parent is `parent` and that still run.
pub(crate) fn children(parent: u32) -> BTreeSet<u32> {
    family(parent).filter(|(_, state)| *state != 'Z').map(|(pid, _)| pid).collect()
}

/// The one process that workers are copies of.
pub(crate) fn zygote(parent: u32) -> Option<u32> {
    children(parent).into_iter().find(|pid| is_zygote(*pid))
}

/// Children of the server that are workers, or are about to be.
pub(crate) fn workers(parent: u32) -> BTreeSet<u32> {
    children(parent).into_iter().filter(|pid| !is_zygote(*pid)).collect()
}

fn is_zygote(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "picloud-zygote\n")
}

/// Processes that ended and that `parent` has not waited for.
pub(crate) fn zombies(parent: u32) -> BTreeSet<u32> {
    family(parent).filter(|(_, state)| *state == 'Z').map(|(pid, _)| pid).collect()
}

/// Whether the process is there, as a zombie or not.
pub(crate) fn is_there(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

/// Whether the process is behind a filter of system calls.
pub(crate) fn is_filtered(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| status.contains("\nSeccomp:\t2\n"))
}

/// Whether this user may look into the memory of a process: workers let nobody but root.
pub(crate) fn is_open(pid: u32) -> bool {
    File::open(format!("/proc/{pid}/mem")).is_ok()
}

/// How often these bytes stand in the memory of a process.
pub(crate) fn find_in_memory(pid: u32, needle: &[u8]) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let readable = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        rest.starts_with('r').then_some((number(start)?, number(end)?))
    });
    let hits = readable.map(|(start, end)| {
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        read(&memory, start, &mut bytes);
        count(&bytes, needle)
    });
    hits.sum()
}

/// Reads what can be read; the rest is zeros. The kernel's own pages cannot all be read, and one that cannot must not
/// hide those around it.
fn read(memory: &File, start: u64, bytes: &mut [u8]) {
    /// The smallest there are.
    const PAGE_BYTES: usize = 4096;
    if memory.read_exact_at(bytes, start).is_ok() {
        return;
    }
    for (page, at) in bytes.chunks_mut(PAGE_BYTES).zip((start..).step_by(PAGE_BYTES)) {
        if memory.read_exact_at(page, at).is_err() {
            page.fill(0);
        }
    }
}

fn count(bytes: &[u8], needle: &[u8]) -> usize {
    let (mut rest, mut hits) = (bytes, 0);
    // By what the standard library searches with, which is optimised in a test that is not.
    while rest.skip_until(needle[0]).unwrap() > 0 {
        hits += usize::from(rest.starts_with(&needle[1..]));
    }
    hits
}

/// Sends a signal to the server or to one of its workers.
pub(crate) fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
}

/// The same, to one that may have ended meanwhile.
pub(crate) fn send_if_there(pid: u32, signal: Signal) {
    match kill(Pid::from_raw(pid.try_into().unwrap()), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => panic!("{signal} to {pid}: {errno}"),
    }
}

/// Processor time of a process in ticks of the kernel's clock.
pub(crate) fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    // User and system time are the 14th and 15th field; the first two are before the bracket.
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

fn family(parent: u32) -> impl Iterator<Item = (u32, char)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(move |pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before the last bracket may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let its_parent: u32 = fields.next()?.parse().ok()?;
        (its_parent == parent).then_some((pid, state))
    })
}

/// Memory that a process has in use now, in KiB.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    memory_kib(pid, "VmRSS:")
}

/// The most that it ever had.
pub(crate) fn peak_kib(pid: u32) -> u64 {
    memory_kib(pid, "VmHWM:")
}

fn memory_kib(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
