//! The walls around a worker, as the worker that was started for the purpose has them.

use nix::unistd::{Gid, Group, geteuid};
use orchestrator_core::pool::{Isolation, Probe, StartError};
use shared::wire::worker::Layers;

use super::{Check, Verdict, landlock};

/// A start that takes longer is felt when a worker has to be replaced under load.
const SLOW_START_MS: u128 = 250;

/// What to call a wall, the layers it is made of, what it means that it is missing, and what helps.
const WALLS: &[(&str, Layers, &str, &str)] = &[
    (
        "system-call filter",
        Layers::SYSTEM_CALL_FILTER,
        "a worker may call the kernel as it likes",
        "use a kernel with CONFIG_SECCOMP_FILTER",
    ),
    (
        "file system",
        Layers::EMPTY_ROOT,
        "a worker sees this user's file system; only the filter and Landlock keep it from opening files",
        NAMESPACES,
    ),
    (
        "network",
        Layers::NETWORK_NAMESPACE,
        "a worker is in this machine's network; only the filter keeps it from making sockets",
        NAMESPACES,
    ),
    (
        "other processes",
        Layers::PROCESS_NAMESPACE,
        "a worker can name the machine's other processes; only the filter, Landlock and its user keep it from them",
        NAMESPACES,
    ),
    (
        "namespaces",
        Layers::IPC_NAMESPACE.and(Layers::UTS_NAMESPACE).and(Layers::CGROUP_NAMESPACE),
        "a worker shares the machine's name, message queues or control groups",
        NAMESPACES,
    ),
    (
        "rights",
        Layers::NO_CAPABILITIES.and(Layers::NO_NEW_PRIVILEGES),
        "a worker may have or gain rights",
        "report this: every Linux that PiCloud supports can take them away",
    ),
    (
        landlock::NAME,
        Layers::LANDLOCK,
        "the kernel's second list of what a worker may touch is not there",
        "use Linux 5.13 or newer with landlock in the list of the boot parameter lsm=",
    ),
    (
        "no new code",
        Layers::NO_NEW_CODE,
        "only the filter keeps a worker from making code",
        "use Linux 6.3 or newer",
    ),
    (
        "sealed code",
        Layers::SEALED_CODE,
        "only the filter keeps a worker from changing its code",
        "use Linux 6.10 or newer",
    ),
    (
        "memory and core files",
        Layers::NOT_DUMPABLE.and(Layers::LIMITS),
        "a worker has no limits, or leaves core files",
        "report this: every Linux that PiCloud supports can set them",
    ),
];

const NAMESPACES: &str = "allow user namespaces: sysctl user.max_user_namespaces above 0, and, where they exist, \
                          kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0; \
                          in a container a seccomp profile that allows unshare; or start PiCloud as root";

/// `landlock_version` is the kernel's.
pub(super) fn checks(probe: &Result<Probe, StartError>, slots: u16, landlock_version: u32) -> Vec<Check> {
    let probe = match probe {
        Ok(probe) => probe,
        Err(error) => {
            let advice = "the worker's own words are above; if they do not help, report them";
            return vec![
                Check::new("worker", Verdict::Fails, format!("does not start: {error}")).advise(advice),
            ];
        }
    };
    let mut checks = vec![start(probe), address_space(probe, slots), identity(probe)];
    checks.extend(out_of_memory(probe));
    checks.extend(WALLS.iter().map(|wall| check(wall, probe.isolation, landlock_version)));
    checks
}

fn start(probe: &Probe) -> Check {
    let time = probe.start_up.as_millis();
    let verdict = if time > SLOW_START_MS { Verdict::Note } else { Verdict::Holds };
    Check::new("worker", verdict, format!("locked down and ready after {time} ms")).taking(probe.start_up)
}

fn address_space(probe: &Probe, wanted: u16) -> Check {
    let found = format!("{} of {wanted} slots for each worker", probe.slots);
    if probe.slots == wanted {
        return Check::new("slots", Verdict::Holds, found);
    }
    Check::new("slots", Verdict::Note, found)
        .advise("each slot takes 4 GiB of addresses; this kernel has no more, so run more workers instead")
}

/// A worker that is not the first to go for want of memory; nothing where it is.
fn out_of_memory(probe: &Probe) -> Option<Check> {
    /// The most that there is.
    const FIRST: i32 = 1_000;
    let score = probe.out_of_memory_score.filter(|score| *score < FIRST)?;
    let found = format!("a worker is not the first to be ended: its oom_score_adj is {score} of {FIRST}");
    let advice = "let PiCloud's workers write to /proc/self/oom_score_adj";
    Some(Check::new("want of memory", Verdict::Note, found).advise(advice))
}

/// Whose rights a worker has: its user's, and those of the user's groups as far as they could not be left.
fn identity(probe: &Probe) -> Check {
    let check = user(probe.isolation);
    if probe.groups.is_empty() {
        return check;
    }
    let names: Vec<_> = probe.groups.iter().map(|group| group_name(*group)).collect();
    let found = format!("{}; it is still in this user's groups {}", check.found, names.join(", "));
    let leave = "start PiCloud as a user who is in no other group, or as root, who can leave them";
    let advice = match check.advice {
        Some(advice) => format!("{advice}; {leave}"),
        None => leave.to_owned(),
    };
    Check::new(check.name, check.verdict.max(Verdict::Note), found).advise(advice)
}

fn group_name(id: u32) -> String {
    let group = Group::from_gid(Gid::from_raw(id)).ok().flatten();
    group.map_or_else(|| id.to_string(), |group| group.name)
}

/// Of user ids, either wall is enough: an id of its own, or one that is worth nothing.
fn user(isolation: Isolation) -> Check {
    let has = |layer| isolation.claimed.contains(layer);
    let found = match (has(Layers::OWN_USER), has(Layers::USER_NAMESPACE)) {
        (true, true) => "each worker is a user of its own, in a user namespace",
        (true, false) => "each worker is a user of its own",
        (false, true) => "a worker has this user's id, in a user namespace where it is worth nothing",
        (false, false) if geteuid().is_root() => {
            return Check::new("user", Verdict::Degraded, "a worker runs as root, without root's rights")
                .advise("start PiCloud as a user without rights, or let it change user ids");
        }
        (false, false) => {
            return Check::new("user", Verdict::Degraded, "a worker runs as this user").advise(NAMESPACES);
        }
    };
    Check::new("user", Verdict::Holds, found)
}

fn check(
    (name, layers, meaning, advice): &(&'static str, Layers, &str, &str),
    isolation: Isolation,
    landlock_version: u32,
) -> Check {
    let missing = layers.without(isolation.claimed);
    if missing == Layers::NONE {
        let unseen = layers.without(isolation.confirmed);
        let found = match *layers {
            Layers::LANDLOCK => return landlock::check(landlock_version, isolation),
            Layers::NO_NEW_CODE | Layers::SEALED_CODE => "holds".to_owned(),
            _ if unseen == Layers::NONE => "holds, and is seen from outside".to_owned(),
            _ => format!("holds; {unseen} cannot be seen from outside by this user"),
        };
        return Check::new(name, Verdict::Holds, found);
    }
    let verdict =
        if missing.contains(Layers::SYSTEM_CALL_FILTER) { Verdict::Fails } else { Verdict::Degraded };
    Check::new(name, verdict, format!("without {missing}: {meaning}")).advise(*advice)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A version that knows all there is to know.
    const LANDLOCK: u32 = 6;

    fn probe(claimed: Layers) -> Result<Probe, StartError> {
        let isolation = Isolation { claimed, confirmed: claimed };
        let (groups, out_of_memory_score) = (Vec::new(), Some(1_000));
        Ok(Probe { isolation, groups, out_of_memory_score, slots: 16, start_up: Duration::from_millis(10) })
    }

    #[test]
    fn every_wall_is_missed_when_it_is_not_there() {
        assert!(
            checks(&probe(Layers::ALL), 16, LANDLOCK).iter().all(|check| check.verdict == Verdict::Holds)
        );
        for (layer, name) in Layers::NAMED {
            // A wall that another one makes up for, or that is part of another one.
            let is_optional = [
                Layers::OWN_USER,
                Layers::USER_NAMESPACE,
                Layers::MOUNT_NAMESPACE,
                Layers::EMPTY_BOUNDING_SET,
                Layers::NO_SPECULATION,
                Layers::OWN_CORE,
            ]
            .contains(layer);
            let checks = checks(&probe(Layers::ALL.without(*layer)), 16, LANDLOCK);
            let missed = checks.iter().filter(|check| check.verdict >= Verdict::Degraded).count();
            assert_eq!(missed, usize::from(!is_optional), "{name}");
        }
    }

    #[test]
    fn what_a_worker_keeps_of_its_user_is_said() {
        let kept =
            Probe { groups: vec![u32::MAX - 1], out_of_memory_score: Some(0), ..probe(Layers::ALL).unwrap() };
        let noted: Vec<_> = checks(&Ok(kept), 16, LANDLOCK)
            .into_iter()
            .filter(|check| check.verdict == Verdict::Note && check.advice.is_some())
            .collect();
        assert_eq!(noted.iter().map(|check| check.name).collect::<Vec<_>>(), ["user", "want of memory"]);
        assert!(noted[0].found.contains("4294967294"), "{}", noted[0].found);
    }

    #[test]
    fn without_a_filter_nothing_runs() {
        let checks = checks(&probe(Layers::ALL.without(Layers::SYSTEM_CALL_FILTER)), 16, LANDLOCK);
        assert!(checks.iter().any(|check| check.verdict == Verdict::Fails && check.advice.is_some()));
    }
}
