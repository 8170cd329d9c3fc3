//! Scripts that ran in workers that misbehaved. Which of them was the reason cannot be seen from outside,
//! so each gets workers of its own for a while: whose worker misbehaves then has nobody else to blame.
//! Pure bookkeeping; the caller has the clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use shared::id::ScriptId;

/// As long as incidents count towards quarantine.
const WATCH: Duration = Duration::from_secs(60 * 60);
/// Scripts that are watched at the same time; beyond that the one watched for longest is let go. One
/// lost worker brings as many as it has slots.
const WATCHED_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Watch {
    since: HashMap<ScriptId, Instant>,
}

impl Watch {
    pub(super) fn is_watched(&self, script: ScriptId, now: Instant) -> bool {
        // No look-up where nothing ever happened: this is asked for every request.
        !self.since.is_empty() && self.since.get(&script).is_some_and(|since| now < *since + WATCH)
    }

    /// Watches a script from now on.
    pub(super) fn add(&mut self, script: ScriptId, now: Instant) {
        self.since.retain(|_, since| now < *since + WATCH);
        if self.since.len() >= WATCHED_MAX && !self.since.contains_key(&script) {
            let first = self.since.iter().min_by_key(|(_, since)| **since).map(|(script, _)| *script);
            self.since.remove(&first.unwrap_or(script));
        }
        self.since.insert(script, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_watched_for_an_hour_after_its_last_incident() {
        let (mut watch, script, start) = (Watch::default(), ScriptId::new(), Instant::now());
        assert!(!watch.is_watched(script, start));
        watch.add(script, start);
        watch.add(script, start + WATCH / 2);
        assert!(watch.is_watched(script, start + WATCH));
        assert!(!watch.is_watched(script, start + 2 * WATCH));
        assert!(!watch.is_watched(ScriptId::new(), start));
    }

    #[test]
    fn who_makes_many_scripts_misbehave_fills_no_memory() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let first = ScriptId::new();
        watch.add(first, start);
        for number in 1..=WATCHED_MAX as u64 {
            watch.add(ScriptId::new(), start + Duration::from_millis(number));
        }
        assert_eq!(watch.since.len(), WATCHED_MAX);
        assert!(!watch.is_watched(first, start), "the first one goes first");
    }
}
