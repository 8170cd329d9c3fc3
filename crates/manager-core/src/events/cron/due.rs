//! From the times that have passed to the events that are made of them.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::Entry;
use crate::events::triggers::cron::{Missed, Overlap, Passed};
use crate::events::{EventKind, NewEvent, Payload};

/// Runs of times that nothing could run at.
const RUNS_MAX: usize = 100;
/// A time that passed longer ago than this was missed: a busy machine is not that late.
const LATE_AFTER: TimeDelta = TimeDelta::seconds(60);

/// What a script sees as `ctx.event.cron`.
#[derive(Debug, Serialize)]
pub(crate) struct About<'a> {
    pub(crate) schedule: &'a str,
    pub(crate) timezone: &'a str,
    pub(crate) scheduled_at: String,
    /// Times before this one at which nothing ran.
    pub(crate) missed: u32,
}

impl<'a> About<'a> {
    pub(crate) fn new(schedule: &'a str, timezone: &'a str, at: DateTime<Utc>, missed: u32) -> Self {
        Self { schedule, timezone, scheduled_at: at.to_rfc3339_opts(SecondsFormat::Secs, true), missed }
    }
}

/// A trigger whose time has come.
#[derive(Debug)]
pub(super) struct Due<'a> {
    pub(super) entry: &'a Entry,
    /// Up to here everything is dealt with.
    pub(super) handled_until: DateTime<Utc>,
    passed: Passed,
}

impl<'a> Due<'a> {
    /// None when no time of the trigger has passed by now.
    pub(super) fn find(entry: &'a Entry, handled_until: DateTime<Utc>, now: DateTime<Utc>) -> Option<Self> {
        let passed = entry.schedule.passed(handled_until, now, RUNS_MAX);
        let handled_until = *passed.times.last()?;
        Some(Self { entry, handled_until, passed })
    }
}

/// The events of a trigger's times, by what it says of those that were missed.
pub(super) fn events_of(due: &Due<'_>, now: DateTime<Utc>) -> Vec<NewEvent> {
    let Passed { count, times } = &due.passed;
    runs(due.entry.config.missed, *count, times, now)
        .into_iter()
        .filter_map(|(time, missed)| event(due.entry, time, missed))
        .collect()
}

/// Which times are run, each with how many were left out before it.
fn runs(
    policy: Missed,
    count: u32,
    times: &[DateTime<Utc>],
    now: DateTime<Utc>,
) -> Vec<(DateTime<Utc>, u32)> {
    let Some(last) = times.last().copied() else { return Vec::new() };
    match policy {
        Missed::Skip if now - last > LATE_AFTER => Vec::new(),
        Missed::Skip => vec![(last, 0)],
        Missed::Once => vec![(last, count - 1)],
        Missed::All => {
            let left_out = count - u32::try_from(times.len()).unwrap_or(count);
            let missed = |at| if at == 0 { left_out } else { 0 };
            times.iter().enumerate().map(|(at, time)| (*time, missed(at))).collect()
        }
    }
}

fn event(entry: &Entry, time: DateTime<Utc>, missed: u32) -> Option<NewEvent> {
    let about = About::new(&entry.config.schedule, &entry.config.timezone, time, missed);
    let payload = Payload::at(EventKind::Cron, Uuid::now_v7(), time, &about).ok()?;
    let trigger = &entry.trigger;
    // Also where a time is left out while another's run is not over: those that are made up for come together.
    let in_turn = entry.config.overlap != Overlap::Allow;
    Some(NewEvent {
        trigger: Some(trigger.id),
        retry: trigger.retry.into(),
        order_key: in_turn.then(|| trigger.id.to_bytes()),
        ..NewEvent::first(trigger.app, trigger.target.script, EventKind::Cron, payload)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use shared::id::AppId;

    use super::*;
    use crate::events::triggers::testing::trigger;
    use crate::events::triggers::{Kind, TriggerConfig};

    #[test]
    fn times_that_are_made_up_for_run_together_only_where_runs_may_overlap() {
        let keys = |overlap: &str| -> Vec<_> {
            let config = json!({ "schedule": "* * * * * *", "missed": "all", "overlap": overlap });
            let trigger = trigger(AppId::new(), Kind::Cron, &config);
            let TriggerConfig::Cron(config) = trigger.config.clone() else { panic!("{trigger:?}") };
            let schedule = config.schedule().unwrap();
            let entry = Entry { trigger: Arc::new(trigger), config, schedule };
            let now = Utc::now();
            let due = Due::find(&entry, now - TimeDelta::seconds(3), now).unwrap();
            let events = events_of(&due, now);
            assert_eq!(events.len(), 3);
            events.iter().map(|event| event.order_key == Some(entry.trigger.id.to_bytes())).collect()
        };
        assert_eq!(keys("allow"), [false; 3]);
        assert_eq!(keys("skip"), [true; 3]);
        assert_eq!(keys("wait"), [true; 3]);
    }

    #[test]
    fn the_policy_says_what_becomes_of_missed_times() {
        let now = Utc::now();
        let ago = |seconds| now - TimeDelta::seconds(seconds);
        let times = [ago(300), ago(200), ago(100)];
        assert!(runs(Missed::Skip, 3, &times, now).is_empty());
        assert_eq!(runs(Missed::Once, 3, &times, now), [(ago(100), 2)]);
        assert_eq!(runs(Missed::All, 3, &times, now), [(ago(300), 0), (ago(200), 0), (ago(100), 0)]);
        // More than are kept.
        assert_eq!(runs(Missed::All, 9, &times, now)[0], (ago(300), 6));
        assert_eq!(runs(Missed::Once, 9, &times, now), [(ago(100), 8)]);
        // In time, one is run by every policy.
        for policy in [Missed::Skip, Missed::Once, Missed::All] {
            assert_eq!(runs(policy, 1, &[ago(1)], now), [(ago(1), 0)]);
        }
        assert_eq!(runs(Missed::Skip, 2, &[ago(70), ago(1)], now), [(ago(1), 0)]);
    }
}
