//! The kernel, the clock and the disk.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use nix::sys::statvfs::statvfs;
use nix::sys::utsname::uname;
use nix::unistd::{AccessFlags, SysconfVar, access, sysconf};
use orchestrator_core::pool::{Controllers, Delegated, Mode, Ungrouped};

use super::{Check, Verdict};
use crate::walls;

const GIB: u64 = 1 << 30;
/// Clock sources that programs read without calling the kernel.
const FAST_CLOCKS: &[&str] = &["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"];

pub(super) fn kernel() -> Vec<Check> {
    let mut checks = Vec::new();
    if let Ok(name) = uname() {
        let found = format!("{} {}", name.sysname().display(), name.release().display());
        checks.push(Check::new("kernel", Verdict::Holds, found));
        checks.push(Check::new("architecture", Verdict::Holds, name.machine().to_string_lossy()));
    }
    if let Ok(Some(bytes)) = sysconf(SysconfVar::PAGE_SIZE) {
        checks.push(page_size(bytes.unsigned_abs()));
    }
    if let Some(bits) = address_bits() {
        checks.push(Check::new("addresses", Verdict::Holds, format!("{bits} bits for programs")));
    }
    checks
}

/// Larger than 64 KiB, a guest's memory cannot be protected page by page: WebAssembly counts in those.
fn page_size(bytes: u64) -> Check {
    let found = format!("{} KiB", bytes >> 10);
    if bytes <= 64 << 10 {
        return Check::new("page size", Verdict::Holds, found);
    }
    Check::new("page size", Verdict::Fails, found).advise("boot a kernel with pages of 4, 16 or 64 KiB")
}

/// The stack ends close to the highest address there is.
fn address_bits() -> Option<u32> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let stack = maps.lines().find(|line| line.ends_with("[stack]"))?;
    let end = stack.split(['-', ' ']).nth(1)?;
    Some(u64::BITS - u64::from_str_radix(end, 16).ok()?.leading_zeros())
}

/// As the server that runs has them, or else as `serve` will find them: it moves itself and its workers about only
/// within a group that is its own.
pub(super) fn control_groups(mode: Mode, running: Option<Result<&Controllers, Ungrouped>>) -> Check {
    match running {
        Some(grouping) => grouped(mode, grouping),
        None => {
            let delegated = Delegated::look();
            grouped(mode, delegated.as_ref().map(|delegated| &delegated.controllers).map_err(|why| *why))
        }
    }
}

fn grouped(mode: Mode, grouping: Result<&Controllers, Ungrouped>) -> Check {
    const NAME: &str = "control groups";
    if !mode.has_walls() {
        return Check::new(NAME, Verdict::Note, "none, as isolation is off");
    }
    if let Some(lacking) = walls::ungrouped(mode, grouping) {
        return Check::new(NAME, Verdict::Fails, format!("{lacking}, and {mode} isolation needs that"))
            .advise(walls::DELEGATE);
    }
    match grouping {
        // The kernel may refuse each controller that it offered.
        Ok(controllers) if controllers.to_string().is_empty() => {
            let found = "each worker is in a group of its own, by which the kernel limits nothing";
            Check::new(NAME, Verdict::Note, found).advise(walls::DELEGATE)
        }
        Ok(controllers) => {
            let found =
                format!("each worker is in a group of its own, which the kernel limits by {controllers}");
            Check::new(NAME, Verdict::Holds, found)
        }
        Err(why) => {
            let found = format!("{why}; workers are limited by their own limits alone");
            Check::new(NAME, Verdict::Note, found).advise(walls::DELEGATE)
        }
    }
}

pub(super) fn clock() -> Check {
    const NAME: &str = "clock";
    let built = fs::metadata("/proc/self/exe").and_then(|metadata| metadata.modified());
    if built.is_ok_and(|built| built > SystemTime::now()) {
        return Check::new(NAME, Verdict::Degraded, "it is earlier now than when this program was installed")
            .advise("set the clock, for example by enabling systemd-timesyncd: sessions and certificates expire by it");
    }
    let source = fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    match source.as_deref().map(str::trim) {
        Ok(source) if !FAST_CLOCKS.contains(&source) => {
            let found = format!("the source {source} is slow to read");
            Check::new(NAME, Verdict::Note, found).advise("boot with a faster one if the hardware has it")
        }
        Ok(source) => Check::new(NAME, Verdict::Holds, format!("plausible, read from {source}")),
        Err(_) => Check::new(NAME, Verdict::Holds, "plausible"),
    }
}

/// Space where the data is, or will be.
pub(super) fn disk(data_dir: &Path) -> Check {
    const NAME: &str = "disk";
    let absolute = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let Some(existing) = absolute.ancestors().find(|path| path.exists()) else {
        return Check::new(NAME, Verdict::Fails, format!("{} cannot be made", absolute.display()));
    };
    if access(existing, AccessFlags::W_OK).is_err() {
        return Check::new(
            NAME,
            Verdict::Fails,
            format!("this user may not write to {}", existing.display()),
        )
        .advise("set PICLOUD_DATA_DIR to a directory of this user");
    }
    let free = match statvfs(existing) {
        Ok(stat) => stat.blocks_available() * stat.fragment_size(),
        Err(errno) => return Check::new(NAME, Verdict::Note, format!("its free space is unknown: {errno}")),
    };
    let found = format!("{} MiB free for {}", free >> 20, absolute.display());
    match free {
        0 => Check::new(NAME, Verdict::Fails, found).advise("make room, or set PICLOUD_DATA_DIR elsewhere"),
        1..GIB => {
            Check::new(NAME, Verdict::Degraded, found).advise("make room before PostgreSQL runs out of it")
        }
        _ => Check::new(NAME, Verdict::Holds, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_groups_hold_only_where_the_kernel_limits_workers_by_them() {
        let given = |names: &[&'static str]| names.iter().copied().collect::<Controllers>();
        let (all, none) = (given(&["memory", "pids", "cpu"]), given(&[]));
        for (mode, grouping, verdict) in [
            (Mode::Pinned, Ok(&all), Verdict::Holds),
            (Mode::Pinned, Ok(&none), Verdict::Note),
            (Mode::Pinned, Err(Ungrouped::Refused), Verdict::Note),
            (Mode::Strict, Ok(&all), Verdict::Holds),
            (Mode::Strict, Ok(&none), Verdict::Fails),
            (Mode::Off, Ok(&all), Verdict::Note),
            (Mode::Off, Err(Ungrouped::Unwanted), Verdict::Note),
        ] {
            assert_eq!(control_groups(mode, Some(grouping)).verdict, verdict, "{mode}: {grouping:?}");
        }
        let refused = control_groups(Mode::Pinned, Some(Err(Ungrouped::Refused))).found;
        assert!(refused.contains("the kernel refuses"), "what the server found is said: {refused}");
    }
}
