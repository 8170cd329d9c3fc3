//! The kernel, the clock and the disk.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use nix::sys::statvfs::statvfs;
use nix::sys::utsname::uname;
use nix::unistd::{AccessFlags, SysconfVar, access, sysconf};
use orchestrator_core::pool::{Controllers, Delegated, Mode, Ungrouped};

use super::{ASKED, Check, Verdict};
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

const CONTROL_GROUPS: &str = "control groups";

/// As the server that runs has them, or else as this command would: `serve` moves itself and its workers about only
/// within a group that is its own.
pub(super) fn control_groups(mode: Mode, running: Option<Result<&Controllers, Ungrouped>>) -> Check {
    match running {
        Some(grouping) => grouped(mode, grouping),
        None => {
            let delegated = Delegated::look();
            beside(mode, delegated.as_ref().map(|delegated| &delegated.controllers).map_err(|why| *why))
        }
    }
}

fn grouped(mode: Mode, grouping: Result<&Controllers, Ungrouped>) -> Check {
    if !mode.has_walls() {
        return Check::new(CONTROL_GROUPS, Verdict::Note, "none, as isolation is off");
    }
    // What `strict` does not start without, every other mode is weaker without.
    let Some(lacking) = walls::ungrouped(Mode::Strict, grouping) else {
        let controllers = grouping.map(ToString::to_string).unwrap_or_default();
        let found = format!("each worker is in a group of its own, which the kernel limits by {controllers}");
        return Check::new(CONTROL_GROUPS, Verdict::Holds, found);
    };
    if walls::ungrouped(mode, grouping).is_some() {
        let found = format!("{lacking}; {mode} isolation does not start so");
        return Check::new(CONTROL_GROUPS, Verdict::Fails, found).advise(walls::DELEGATE);
    }
    let meaning = if grouping.is_ok_and(|controllers| controllers.contains("memory")) {
        "by the others the kernel limits each worker"
    } else {
        "each worker has limits of its own, but all together the kernel holds to none of memory"
    };
    Check::new(CONTROL_GROUPS, Verdict::Degraded, format!("{lacking}; {meaning}")).advise(walls::DELEGATE)
}

/// Of a command that runs beside the service: a group of its shell that cannot be divided up says nothing of the
/// service's, so it is no verdict on that.
fn beside(mode: Mode, grouping: Result<&Controllers, Ungrouped>) -> Check {
    let check = grouped(mode, grouping);
    match grouping {
        // The service is on the same machine, and has none either.
        Err(Ungrouped::None) => check,
        _ if check.verdict > Verdict::Note => {
            let found = format!("not known of a service; of this command: {}", check.found);
            let advice = format!("ask {ASKED}, or run this as docs/operation.md says; {}", walls::DELEGATE);
            Check::new(CONTROL_GROUPS, Verdict::Note, found).advise(advice)
        }
        _ => check,
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

    fn given(names: &[&'static str]) -> Controllers {
        names.iter().copied().collect()
    }

    #[test]
    fn control_groups_hold_only_where_the_kernel_limits_workers_by_them() {
        let (all, none) = (given(&["memory", "pids", "cpu"]), given(&[]));
        let (no_memory, no_pids) = (given(&["pids", "cpu"]), given(&["memory", "cpu"]));
        for (mode, grouping, verdict) in [
            (Mode::Pinned, Ok(&all), Verdict::Holds),
            (Mode::Pinned, Ok(&none), Verdict::Degraded),
            (Mode::Pinned, Ok(&no_memory), Verdict::Degraded),
            (Mode::Pinned, Ok(&no_pids), Verdict::Degraded),
            (Mode::Pinned, Err(Ungrouped::None), Verdict::Degraded),
            (Mode::Pinned, Err(Ungrouped::Refused), Verdict::Degraded),
            (Mode::Shared, Err(Ungrouped::Crowded), Verdict::Degraded),
            (Mode::Strict, Ok(&all), Verdict::Holds),
            (Mode::Strict, Ok(&none), Verdict::Fails),
            (Mode::Strict, Err(Ungrouped::None), Verdict::Fails),
            (Mode::Off, Ok(&all), Verdict::Note),
            (Mode::Off, Err(Ungrouped::Unwanted), Verdict::Note),
        ] {
            let check = control_groups(mode, Some(grouping));
            assert_eq!(check.verdict, verdict, "{mode}: {grouping:?}");
            assert_eq!(check.advice.is_some(), verdict >= Verdict::Degraded, "{mode}: {grouping:?}");
        }
        let refused = control_groups(Mode::Pinned, Some(Err(Ungrouped::Refused))).found;
        assert!(refused.contains("the kernel refuses"), "what the server found is said: {refused}");
        assert!(refused.contains("all together"), "and what that means: {refused}");
    }

    #[test]
    fn a_command_beside_the_service_judges_no_service_by_its_own_group() {
        let all = given(&["memory", "pids", "cpu"]);
        for mode in [Mode::Shared, Mode::Pinned, Mode::Strict] {
            for why in
                [Ungrouped::Root, Ungrouped::NotDelegated, Ungrouped::Crowded, Ungrouped::NoControllers]
            {
                let check = beside(mode, Err(why));
                assert_eq!(check.verdict, Verdict::Note, "{mode}: {why:?}");
                let words = format!("not known of a service; of this command: {why}");
                assert!(check.found.starts_with(&words), "{}", check.found);
                assert!(check.advice.is_some_and(|advice| advice.contains(ASKED)), "{mode}: {why:?}");
            }
            assert_eq!(beside(mode, Ok(&all)), control_groups(mode, Some(Ok(&all))));
            let machine = beside(mode, Err(Ungrouped::None));
            let verdict = if mode == Mode::Strict { Verdict::Fails } else { Verdict::Degraded };
            assert_eq!(machine.verdict, verdict, "{mode}: no service has them on this machine");
        }
        assert_eq!(beside(Mode::Off, Err(Ungrouped::None)).verdict, Verdict::Note);
    }
}
