//! What the machine lets one program learn of another without a fault in either: shared cores, swap,
//! merged memory. The usual walls do not help there; two more, which cost time, stand in strict isolation.

use std::fs;

use orchestrator_core::pool::{Isolation, Mode};
use shared::wire::worker::Layers;

use super::{Check, Verdict};

const NAME: &str = "side channels";
const IN_STRICT: &str = "side channels (strict)";
const VULNERABILITIES: &str = "/sys/devices/system/cpu/vulnerabilities";

/// What a worker in strict isolation puts up against them: what it is good for, what it means that it is missing,
/// and what helps.
const LAYERS: &[(Layers, &str, &str, &str)] = &[
    (
        Layers::OWN_CORE,
        "no other program is on a worker's core at the same time",
        "another program may be on a worker's core at the same time and learn what the worker does",
        "use Linux 5.14 or newer with CONFIG_SCHED_CORE, or boot with nosmt",
    ),
    (
        Layers::NO_SPECULATION,
        "the processor does not run ahead in a worker",
        "the processor runs ahead in a worker, and others may learn what it reads meanwhile",
        "update kernel and microcode, boot without mitigations=off, spec_store_bypass_disable=off and \
         spectre_v2_user=off, and give a virtual machine the processor's own model",
    ),
];

/// `isolation` is what a worker has here, if it starts at all.
pub(super) fn checks(mode: Mode, isolation: Option<Isolation>) -> [Check; 2] {
    [machine(), workers(mode, isolation)]
}

/// Strict isolation starts without these layers, but then with less than whoever chose it may think.
fn workers(mode: Mode, isolation: Option<Isolation>) -> Check {
    let both = Layers::OWN_CORE | Layers::NO_SPECULATION;
    if mode != Mode::Strict {
        return Check::new(IN_STRICT, Verdict::Note, format!("taken in strict isolation alone: {both}"));
    }
    let Some(isolation) = isolation else {
        return Check::new(IN_STRICT, Verdict::Note, format!("unknown, as no worker starts: {both}"));
    };
    let holds = |layer: Layers| isolation.claimed.contains(layer);
    let found: Vec<_> = LAYERS
        .iter()
        .map(|(layer, good, meaning, _)| {
            if holds(*layer) {
                format!("{layer} holds: {good}")
            } else {
                format!("without {layer}: {meaning}")
            }
        })
        .collect();
    let advice: Vec<_> =
        LAYERS.iter().filter(|(layer, ..)| !holds(*layer)).map(|(.., advice)| *advice).collect();
    if advice.is_empty() {
        return Check::new(IN_STRICT, Verdict::Holds, found.join("; "));
    }
    Check::new(IN_STRICT, Verdict::Degraded, found.join("; ")).advise(advice.join("; "))
}

/// Notes, not faults: whether they matter depends on whose scripts run.
fn machine() -> Check {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn with(claimed: Layers) -> Option<Isolation> {
        Some(Isolation { claimed, confirmed: claimed })
    }

    #[test]
    fn in_strict_isolation_each_of_the_two_layers_holds_or_is_missed_with_what_helps() {
        let all = workers(Mode::Strict, with(Layers::ALL));
        assert_eq!((all.verdict, all.advice), (Verdict::Holds, None));
        for (layer, _, meaning, advice) in LAYERS {
            let check = workers(Mode::Strict, with(Layers::ALL.without(*layer)));
            assert_eq!(check.verdict, Verdict::Degraded);
            assert!(check.found.contains(&format!("without {layer}: {meaning}")), "{}", check.found);
            assert_eq!(check.advice.as_deref(), Some(*advice));
        }
        assert_eq!(workers(Mode::Strict, None).verdict, Verdict::Note);
    }

    #[test]
    fn both_layers_are_named_in_every_mode() {
        for mode in [Mode::Shared, Mode::Pinned, Mode::Strict, Mode::Off] {
            for isolation in [None, with(Layers::USUAL), with(Layers::ALL)] {
                let found = workers(mode, isolation).found;
                assert!(found.contains("own-core") && found.contains("no-speculation"), "{mode}: {found}");
            }
        }
    }
}
