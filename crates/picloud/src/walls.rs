//! What an isolation mode cannot do without.

use anyhow::bail;
use orchestrator_core::pool::{Controllers, Isolation, Mode, Ungrouped};
use shared::wire::worker::Layers;

/// `strict` must not starve the others: what a process may map is its own limit, what it really takes of the
/// machine, the kernel's memory for it included, only a control group bounds.
const STRICT_CONTROLLERS: [&str; 2] = ["memory", "pids"];

/// What gives PiCloud a control group to divide up.
pub const DELEGATE: &str = "under systemd: Delegate=memory pids cpu in the unit, and from version 254 on \
                            DelegateSubgroup=supervisor; elsewhere as docs/operation.md says";

/// Why the workers' control groups are not what the mode needs, if they are not.
pub fn ungrouped(mode: Mode, grouping: Result<&Controllers, Ungrouped>) -> Option<String> {
    match (mode, grouping) {
        (Mode::Shared | Mode::Pinned | Mode::Off, _) => None,
        (Mode::Strict, Err(why)) => Some(why.to_string()),
        (Mode::Strict, Ok(controllers)) => {
            let missing: Vec<_> =
                STRICT_CONTROLLERS.into_iter().filter(|name| !controllers.contains(name)).collect();
            (!missing.is_empty())
                .then(|| format!("the control group of PiCloud is not given: {}", missing.join(", ")))
        }
    }
}

/// Why this mode does not start here, and what would mend it; nothing when it may.
pub fn refusal(
    mode: Mode,
    isolation: Isolation,
    grouping: Result<&Controllers, Ungrouped>,
) -> Option<String> {
    let (walls, group) = (isolation.lacking(mode.needs()), ungrouped(mode, grouping));
    let walls = (walls != Layers::NONE)
        .then(|| format!("a worker does not get {walls}; `picloud doctor` says what would give it"));
    let group = group.map(|why| format!("each worker needs a control group, but {why}; {DELEGATE}"));
    let reasons: Vec<_> = [walls, group].into_iter().flatten().collect();
    (!reasons.is_empty())
        .then(|| format!("PICLOUD_ISOLATION={mode} does not start here: {}", reasons.join(". ")))
}

/// Whether one app may have so many slots of those that there are for it.
pub(crate) fn check_app_slots(max: Option<usize>, isolation: Mode, slots: usize) -> anyhow::Result<()> {
    let Some(max) = max.filter(|max| !(1..=slots).contains(max)) else {
        return Ok(());
    };
    let which = match isolation {
        Mode::Strict => "PICLOUD_WORKERS, as a worker has one slot in strict isolation",
        Mode::Shared | Mode::Pinned | Mode::Off => "the number of all slots",
    };
    bail!("PICLOUD_APP_SLOTS_MAX is {max}; it may be 1 to {slots}, which is {which}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_needs_walls_that_pinned_can_do_without() {
        let without = |layer| Isolation { claimed: Layers::ALL.without(layer), confirmed: Layers::NONE };
        for layer in [Layers::EMPTY_ROOT, Layers::NETWORK_NAMESPACE, Layers::PROCESS_NAMESPACE] {
            assert_eq!(without(layer).lacking(Mode::Strict.needs()), layer);
            assert_eq!(without(layer).lacking(Mode::Pinned.needs()), Layers::NONE);
        }
        for layer in [Layers::OWN_USER, Layers::USER_NAMESPACE, Layers::SEALED_CODE] {
            assert_eq!(without(layer).lacking(Mode::Strict.needs()), Layers::NONE);
        }
        let users = Layers::OWN_USER | Layers::USER_NAMESPACE;
        assert_eq!(without(users).lacking(Mode::Strict.needs()), Layers::USER_NAMESPACE);
    }

    #[test]
    fn strict_needs_groups_that_limit_memory_and_processes() {
        let all = Isolation { claimed: Layers::ALL, confirmed: Layers::NONE };
        let given = |names: &[&'static str]| names.iter().copied().collect::<Controllers>();
        for (grouping, words) in [
            (Err(Ungrouped::Root), "in no control group of its own"),
            (Err(Ungrouped::Refused), "the kernel refuses"),
            (Ok(&given(&["cpu"])), "is not given: memory, pids"),
            (Ok(&given(&["cpu", "memory"])), "is not given: pids"),
        ] {
            let refused = refusal(Mode::Strict, all, grouping).unwrap();
            assert!(refused.contains(words) && refused.contains(DELEGATE), "{refused}");
            for mode in [Mode::Shared, Mode::Pinned, Mode::Off] {
                assert_eq!(refusal(mode, all, grouping), None);
            }
        }
        assert_eq!(refusal(Mode::Strict, all, Ok(&given(&["memory", "pids"]))), None);
    }

    #[test]
    fn all_that_strict_lacks_is_said_at_once() {
        let bare = Isolation { claimed: Layers::ALL.without(Layers::EMPTY_ROOT), confirmed: Layers::NONE };
        let refused = refusal(Mode::Strict, bare, Err(Ungrouped::Crowded)).unwrap();
        assert!(refused.contains("empty-root") && refused.contains("other programs"), "{refused}");
    }
}
