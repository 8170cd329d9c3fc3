//! What the machine lets one program learn of another without a fault in either: shared cores, swap,
//! merged memory. Walls do not help there.

use std::fs;

use super::{Check, Verdict};

const NAME: &str = "side channels";
const VULNERABILITIES: &str = "/sys/devices/system/cpu/vulnerabilities";

/// Notes, not faults: whether they matter depends on whose scripts run.
pub(super) fn check() -> Check {
    let mut found = Vec::new();
    let mut advice = Vec::new();
    if is("/sys/devices/system/cpu/smt/active", "1") {
        found.push("two programs share a core (SMT)".to_owned());
        advice.push("boot with nosmt, or");
    }
    if is("/sys/kernel/mm/ksm/run", "1") {
        found.push("equal memory is merged (KSM)".to_owned());
        advice.push("write 0 to /sys/kernel/mm/ksm/run, or");
    }
    if has_swap() {
        found.push("what is in memory may be written to disk (swap)".to_owned());
        advice.push("encrypt swap or use zram, or");
    }
    let vulnerable = vulnerabilities();
    if !vulnerable.is_empty() {
        found.push(format!("the kernel does not mitigate {}", vulnerable.join(", ")));
        advice.push("update kernel and microcode and boot without mitigations=off, or");
    }
    if found.is_empty() {
        return Check::new(NAME, Verdict::Holds, "none that the kernel knows of");
    }
    advice.push("give people who are after each other's secrets a virtual machine each");
    Check::new(NAME, Verdict::Note, found.join("; ")).advise(advice.join(" "))
}

fn is(path: &str, value: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
}

/// The first line is a heading.
fn has_swap() -> bool {
    fs::read_to_string("/proc/swaps")
        .is_ok_and(|text| text.lines().skip(1).any(|line| !line.starts_with("/dev/zram")))
}

/// Faults of this processor that nothing is done about.
fn vulnerabilities() -> Vec<String> {
    let entries = fs::read_dir(VULNERABILITIES).into_iter().flatten().flatten();
    let open = entries.filter(|entry| {
        fs::read_to_string(entry.path()).is_ok_and(|text| text.trim_start().starts_with("Vulnerable"))
    });
    let mut names: Vec<_> = open.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
