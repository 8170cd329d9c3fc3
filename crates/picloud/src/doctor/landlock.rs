//! What this kernel's Landlock knows of what a worker must not touch, and what makes up for the rest.

use orchestrator_core::pool::Isolation;
use shared::wire::worker::Layers;

use super::{Check, Verdict};

pub(super) const NAME: &str = "Landlock";
/// The first Linux with version 6, which knows all parts.
const KNOWS_ALL: &str = "use Linux 6.12 or newer";

/// Something that Landlock keeps a worker from, once it knows of it. That it opens no file, it knows from its beginning.
struct Part {
    /// The first version of Landlock that knows it.
    since: u32,
    what: &'static str,
    /// Layers of which each keeps a worker from the same.
    made_up_for: Layers,
}

const PARTS: &[Part] = &[
    Part { since: 3, what: "the truncation of files", made_up_for: Layers::EMPTY_ROOT },
    Part { since: 4, what: "TCP ports", made_up_for: Layers::NETWORK_NAMESPACE },
    Part { since: 5, what: "commands to devices (ioctl)", made_up_for: Layers::EMPTY_ROOT },
    Part { since: 6, what: "abstract sockets", made_up_for: Layers::NETWORK_NAMESPACE },
    Part {
        since: 6,
        what: "signals to other processes",
        made_up_for: Layers::PROCESS_NAMESPACE.and(Layers::OWN_USER),
    },
];

/// Of a worker that has Landlock in this version. What the version lacks makes the walls weaker only where nothing but
/// the filter keeps a worker from it.
pub(super) fn check(version: u32, isolation: Isolation) -> Check {
    let unknown: Vec<&Part> = PARTS.iter().filter(|part| part.since > version).collect();
    if unknown.is_empty() {
        return Check::new(NAME, Verdict::Holds, format!("version {version}"));
    }
    let others = |part: &Part| {
        let absent = part.made_up_for.without(isolation.claimed);
        part.made_up_for.without(absent)
    };
    let told: Vec<String> = unknown
        .iter()
        .map(|part| match others(part) {
            Layers::NONE => format!("{} (only the filter keeps a worker from that)", part.what),
            others => format!("{} ({others} and the filter keep a worker from that)", part.what),
        })
        .collect();
    let is_made_up_for = unknown.iter().all(|part| others(part) != Layers::NONE);
    let verdict = if is_made_up_for { Verdict::Note } else { Verdict::Degraded };
    Check::new(NAME, verdict, format!("version {version}, which does not know {}", told.join(", ")))
        .advise(KNOWS_ALL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(claimed: Layers, version: u32) -> Check {
        check(version, Isolation { claimed, confirmed: claimed })
    }

    #[test]
    fn an_old_version_is_a_note_where_other_walls_hold_the_same_and_says_which() {
        for (version, unknown) in [(1, 5), (2, 5), (3, 4), (4, 3), (5, 2)] {
            let check = with(Layers::ALL, version);
            assert_eq!(check.verdict, Verdict::Note, "{version}");
            assert_eq!(check.found.matches(" and the filter keep").count(), unknown, "{}", check.found);
            assert_eq!(check.advice.as_deref(), Some(KNOWS_ALL));
        }
        let found = with(Layers::ALL, 5).found;
        assert!(found.contains("abstract sockets (network-namespace and the filter"), "{found}");
    }

    #[test]
    fn an_old_version_is_degraded_where_nothing_but_the_filter_holds_the_same() {
        for (layer, what, newest) in [
            (Layers::EMPTY_ROOT, "the truncation of files", 2),
            (Layers::NETWORK_NAMESPACE, "TCP ports", 3),
            (Layers::EMPTY_ROOT, "commands to devices (ioctl)", 4),
            (Layers::NETWORK_NAMESPACE, "abstract sockets", 5),
            (Layers::PROCESS_NAMESPACE.and(Layers::OWN_USER), "signals to other processes", 5),
        ] {
            let alone = format!("{what} (only the filter");
            for version in 1..=6 {
                let check = with(Layers::ALL.without(layer), version);
                assert_eq!(check.found.contains(&alone), version <= newest, "{version}: {}", check.found);
                if version <= newest {
                    assert_eq!(check.verdict, Verdict::Degraded, "{version}: {what}");
                }
            }
        }
        // Either of the two is enough.
        assert_eq!(with(Layers::ALL.without(Layers::OWN_USER), 5).verdict, Verdict::Note);
        assert_eq!(with(Layers::ALL.without(Layers::PROCESS_NAMESPACE), 5).verdict, Verdict::Note);
    }

    #[test]
    fn a_version_that_knows_all_holds() {
        for version in [6, 7, 9] {
            let check = with(Layers::LANDLOCK, version);
            assert_eq!((check.verdict, check.advice), (Verdict::Holds, None), "{version}");
        }
    }
}
