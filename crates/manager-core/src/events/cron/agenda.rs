//! What comes next, by the database's clock as it was last asked.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use shared::id::TriggerId;

/// A timer may ring a moment early; asking the database again would only find that out.
const EARLY: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Agenda {
    times: BTreeSet<(DateTime<Utc>, TriggerId)>,
    /// What the database's clock showed, and when that was.
    clock: (DateTime<Utc>, Instant),
}

impl Default for Agenda {
    fn default() -> Self {
        Self::at(DateTime::UNIX_EPOCH)
    }
}

impl Agenda {
    pub(super) fn at(now: DateTime<Utc>) -> Self {
        Self { times: BTreeSet::new(), clock: (now, Instant::now()) }
    }

    pub(super) fn set_clock(&mut self, now: DateTime<Utc>) {
        self.clock = (now, Instant::now());
    }

    pub(super) fn add(&mut self, time: DateTime<Utc>, trigger: TriggerId) {
        self.times.insert((time, trigger));
    }

    pub(super) fn remove(&mut self, entry: (DateTime<Utc>, TriggerId)) {
        self.times.remove(&entry);
    }

    /// How long until the next time; none when nothing comes.
    pub(super) fn wait(&self) -> Option<Duration> {
        let (next, _) = self.times.first()?;
        let left = next.signed_duration_since(self.now()).to_std().unwrap_or_default();
        Some(left + EARLY)
    }

    /// What has come, the first first.
    pub(super) fn due(&self, most: usize) -> Vec<(DateTime<Utc>, TriggerId)> {
        let now = self.now();
        self.times.iter().take_while(|(time, _)| *time <= now).take(most).copied().collect()
    }

    fn now(&self) -> DateTime<Utc> {
        let (then, since) = self.clock;
        then + TimeDelta::from_std(since.elapsed()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_is_waited_for_and_what_has_come_is_due() {
        let now = Utc::now();
        let mut agenda = Agenda::at(now);
        assert_eq!(agenda.wait(), None);
        let (early, late) = (TriggerId::new(), TriggerId::new());
        agenda.add(now + TimeDelta::hours(1), late);
        agenda.add(now - TimeDelta::seconds(1), early);
        assert_eq!(agenda.wait(), Some(EARLY));
        assert_eq!(agenda.due(9), [(now - TimeDelta::seconds(1), early)]);
        agenda.remove((now - TimeDelta::seconds(1), early));
        assert!(agenda.due(9).is_empty());
        let wait = agenda.wait().unwrap();
        assert!(wait > Duration::from_secs(3_590) && wait <= Duration::from_secs(3_601), "{wait:?}");
        // A clock that was put forward.
        agenda.set_clock(now + TimeDelta::hours(2));
        assert_eq!(agenda.due(9).len(), 1);
    }
}
