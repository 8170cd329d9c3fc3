//! The walls around a worker, as the worker that was started for the purpose has them.

use std::fs;

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

/// Who starts workers, as far as it decides which users they can be.
#[derive(Debug, Clone, Copy)]
struct Starter {
    is_root: bool,
    /// Whether the ids that workers are given exist here.
    has_ids: bool,
    /// Whoever may not makes a user namespace for each worker first, where that is allowed.
    may_make_namespaces: bool,
}

impl Starter {
    fn here() -> Self {
        let has_ids = |map| fs::read_to_string(map).is_ok_and(|map| has_ids(&map));
        let status = fs::read_to_string("/proc/self/status");
        Self {
            is_root: geteuid().is_root(),
            has_ids: has_ids("/proc/self/uid_map") && has_ids("/proc/self/gid_map"),
            may_make_namespaces: status.is_ok_and(|status| may_make_namespaces(&status)),
        }
    }
}

/// Whether the ids of all workers exist in a user namespace: 2,000,000,000 and a process id, at most 2^22. A line of its
/// map has the first id inside, the first outside, and how many there are.
fn has_ids(map: &str) -> bool {
    const FIRST: u64 = 2_000_000_000;
    const LAST: u64 = FIRST + (1 << 22);
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().filter_map(|number| number.parse::<u64>().ok());
        let (first, count) = (numbers.next(), numbers.nth(1));
        first.zip(count).is_some_and(|(first, count)| first <= FIRST && first + count > LAST)
    })
}

/// Whether a process of this status has `CAP_SYS_ADMIN`, which is number 21.
fn may_make_namespaces(status: &str) -> bool {
    const RIGHT: u64 = 1 << 21;
    let rights = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let rights = rights.and_then(|rights| u64::from_str_radix(rights.trim(), 16).ok());
    rights.is_some_and(|rights| rights & RIGHT != 0)
}

/// `landlock_version` is the kernel's.
pub(super) fn checks(probe: &Result<Probe, StartError>, slots: u16, landlock_version: u32) -> Vec<Check> {
    checks_for(Starter::here(), probe, slots, landlock_version)
}

fn checks_for(
    starter: Starter,
    probe: &Result<Probe, StartError>,
    slots: u16,
    landlock_version: u32,
) -> Vec<Check> {
    let probe = match probe {
        Ok(probe) => probe,
        Err(error) => {
            let advice = "the worker's own words are above; if they do not help, report them";
            return vec![
                Check::new("worker", Verdict::Fails, format!("does not start: {error}")).advise(advice),
            ];
        }
    };
    let mut checks = vec![start(probe), address_space(probe, slots), identity(starter, probe)];
    checks.extend(out_of_memory(probe));
    checks.extend(WALLS.iter().map(|wall| check(wall, probe.isolation, landlock_version)));
    checks
}

fn start(probe: &Probe) -> Check {
    let (time, first) = (probe.start_up.as_millis(), probe.first_start_up.as_millis());
    let verdict = if time > SLOW_START_MS { Verdict::Note } else { Verdict::Holds };
    Check::new(
        "worker",
        verdict,
        format!("locked down and ready after {time} ms, the first after {first} ms"),
    )
    .taking(probe.start_up)
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
fn identity(starter: Starter, probe: &Probe) -> Check {
    let check = user(starter, probe.isolation);
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

/// Of user ids, either wall is enough: an id of its own, or one that is worth nothing. Root's is worth something in any
/// namespace, as most of what there is belongs to it.
fn user(starter: Starter, isolation: Isolation) -> Check {
    let has = |layer| isolation.claimed.contains(layer);
    let found = match (has(Layers::OWN_USER), has(Layers::USER_NAMESPACE)) {
        (true, true) => "each worker is a user of its own, in a user namespace",
        (true, false) => "each worker is a user of its own",
        (false, _) if starter.is_root => return root(starter, isolation),
        (false, true) => "a worker has this user's id, in a user namespace where it is worth nothing",
        (false, false) => {
            return Check::new("user", Verdict::Degraded, "a worker runs as this user").advise(NAMESPACES);
        }
    };
    Check::new("user", Verdict::Holds, found)
}

/// A worker of root's that could not become somebody else. That it is in a user namespace says nothing by itself: one
/// that was refused another id goes there afterwards.
fn root(starter: Starter, isolation: Isolation) -> Check {
    let (reason, mend) = if !starter.has_ids {
        (
            "this user namespace does not have the ids from 2,000,000,000 to 2,004,194,304",
            "give them to the container, as one has them that is not rootless",
        )
    } else if !starter.may_make_namespaces && isolation.claimed.contains(Layers::USER_NAMESPACE) {
        (
            "PiCloud has no CAP_SYS_ADMIN, so its workers are in a user namespace before they can be somebody else",
            "let it make namespaces and change user ids (CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID)",
        )
    } else {
        ("PiCloud may not change user ids", "let it change them (CAP_SETUID and CAP_SETGID)")
    };
    let found = format!("a worker runs as root, without root's rights, because {reason}");
    Check::new("user", Verdict::Degraded, found)
        .advise(format!("start PiCloud as a user without rights, or {mend}"))
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
    const ROOT: Starter = Starter { is_root: true, has_ids: true, may_make_namespaces: true };
    const ANYBODY: Starter = Starter { is_root: false, ..ROOT };

    fn checks(probe: &Result<Probe, StartError>, slots: u16, landlock_version: u32) -> Vec<Check> {
        checks_for(ANYBODY, probe, slots, landlock_version)
    }

    fn probe(claimed: Layers) -> Result<Probe, StartError> {
        let isolation = Isolation { claimed, confirmed: claimed };
        let (groups, out_of_memory_score) = (Vec::new(), Some(1_000));
        let (start_up, first_start_up) = (Duration::from_millis(3), Duration::from_millis(30));
        Ok(Probe { isolation, groups, out_of_memory_score, slots: 16, start_up, first_start_up })
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
    fn a_worker_that_keeps_roots_id_is_never_called_well_and_the_reason_is_named() {
        let user = |starter, claimed| user(starter, Isolation { claimed, confirmed: claimed });
        let contained = Starter { has_ids: false, ..ROOT };
        let limited = Starter { may_make_namespaces: false, ..ROOT };
        let own = Layers::ALL.without(Layers::USER_NAMESPACE);
        for layers in [Layers::ALL, own] {
            assert_eq!(user(ROOT, layers).verdict, Verdict::Holds, "{layers}");
        }
        let (inside, outside) = (Layers::ALL.without(Layers::OWN_USER), own.without(Layers::OWN_USER));
        for (starter, layers, reason, mend) in [
            (ROOT, inside, "may not change user ids", "CAP_SETUID"),
            (ROOT, outside, "may not change user ids", "CAP_SETUID"),
            (contained, inside, "does not have the ids from 2,000,000,000", "rootless"),
            (contained, outside, "does not have the ids from 2,000,000,000", "rootless"),
            (limited, inside, "has no CAP_SYS_ADMIN", "CAP_SYS_ADMIN"),
            // Without a user namespace it was still root when it asked for another id.
            (limited, outside, "may not change user ids", "CAP_SETUID"),
        ] {
            let check = user(starter, layers);
            assert_eq!(check.verdict, Verdict::Degraded, "{layers}");
            let found = &check.found;
            assert!(found.contains("runs as root") && found.contains(reason), "{found}");
            assert!(check.advice.is_some_and(|advice| advice.contains(mend)), "{layers}");
        }
        assert_eq!(user(ANYBODY, Layers::ALL.without(Layers::OWN_USER)).verdict, Verdict::Holds);
        assert_eq!(user(ANYBODY, own.without(Layers::OWN_USER)).verdict, Verdict::Degraded);
    }

    #[test]
    fn only_a_map_of_all_ids_of_workers_has_them() {
        assert!(has_ids("         0          0 4294967295\n"));
        assert!(has_ids("0 1000 1\n2000000000 100000 4194305\n"));
        for map in ["", "0 1000 1\n1 100000 65536\n", "2000000000 100000 4194304\n", "2000000001 0 9000000\n"]
        {
            assert!(!has_ids(map), "{map:?}");
        }
    }

    #[test]
    fn namespaces_are_made_with_one_right_of_many() {
        assert!(may_make_namespaces("CapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n"));
        assert!(may_make_namespaces("CapEff:\t0000000000200000\n"));
        // What Docker leaves to root; and what may be taken, but was not.
        for status in ["", "CapEff:\t00000000a80425fb\n", "CapPrm:\t0000000000200000\nCapEff:\t0\n"] {
            assert!(!may_make_namespaces(status), "{status:?}");
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
