//! What one app keeps, as far as it is known: what was measured, and what was added since. Pure bookkeeping: the time
//! is given.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The part of the limit that may be added before an app is measured again: a sixteenth.
const DUE_PART: i64 = 16;
/// The part that may be added before a change waits for that: an eighth.
const WAIT_PART: i64 = 8;
/// For how long a measurement is believed that found no room, and how long after one none begins for which nobody
/// waits.
const FRESH: Duration = Duration::from_secs(2);
/// After a measurement, none begins for so many times as long as it took: at most a fifth of the time is spent on it,
/// unless somebody would be refused.
const REST_TIMES: u32 = 4;
/// The longest rest when somebody would be refused, who may have made room.
const REST_REFUSED: Duration = Duration::from_secs(2);

/// Whether a change may add something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Fits,
    /// It does, and it is time to measure.
    FitsAndIsDue,
    /// By what is known there is room, but that is little: only a measurement can say.
    Unknown,
    /// By what is known there is none, but that is old.
    FullUnlessMeasured,
    Full,
}

#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// Bytes, as of the last measurement that came to an end.
    measured: Option<i64>,
    /// When the last measurement ended, also one that failed, and how long it took.
    last: Option<(Instant, Duration)>,
    /// Whether that one failed: another one would keep others waiting for nothing.
    has_failed: bool,
    /// Bytes that changes have added or tried to, which the measurement did not see. What they replaced is not taken
    /// off.
    added: i64,
    /// The part of it whose changes are not over.
    pending: i64,
    /// Whether a change has ended since the last measurement began: it may have made room.
    is_changed: bool,
    /// Its sender is dropped when the measurement that is under way has ended.
    pub(super) measuring: Option<watch::Receiver<()>>,
    /// Tells that one, while it rests, that somebody is refused without it.
    pub(super) hurry: Arc<Notify>,
}

impl Gauge {
    /// Bytes that are kept, or rather more.
    pub(super) fn kept(&self) -> i64 {
        self.measured.unwrap_or(0).saturating_add(self.added)
    }

    /// Takes room for a change, if there is.
    pub(super) fn ask(&mut self, bytes: i64, limit: i64, now: Instant) -> Answer {
        let fits = self.fits(bytes, limit);
        if !fits && self.is_surely_full(bytes, limit, now) {
            return Answer::Full;
        }
        if !fits {
            return Answer::FullUnlessMeasured;
        }
        if self.added > limit / WAIT_PART {
            return Answer::Unknown;
        }
        self.take(bytes);
        if self.is_due(limit, now) { Answer::FitsAndIsDue } else { Answer::Fits }
    }

    /// The same by what is known; false when there is no room.
    pub(super) fn settle(&mut self, bytes: i64, limit: i64) -> bool {
        let fits = self.fits(bytes, limit);
        if fits {
            self.take(bytes);
        }
        fits
    }

    /// A change for which so much was taken is over.
    pub(super) fn end(&mut self, bytes: i64) {
        self.pending = self.pending.saturating_sub(bytes).max(0);
        self.is_changed = true;
    }

    /// A measurement begins; answers what of the added it sees.
    pub(super) fn begin(&mut self) -> i64 {
        self.is_changed = false;
        self.added - self.pending
    }

    /// It has ended; one that failed measured nothing.
    pub(super) fn finish(&mut self, seen: i64, measured: Option<i64>, (begun, ended): (Instant, Instant)) {
        if let Some(bytes) = measured {
            self.measured = Some(bytes);
            self.added = self.added.saturating_sub(seen).max(0);
        }
        self.last = Some((ended, ended.duration_since(begun)));
        self.has_failed = measured.is_none();
    }

    /// When a measurement may begin.
    pub(super) fn earliest(&self, now: Instant) -> Instant {
        self.last.map_or(now, |(ended, took)| ended + took * REST_TIMES)
    }

    /// The same when somebody is refused without it.
    pub(super) fn earliest_for_refused(&self, now: Instant) -> Instant {
        let earliest = self.earliest(now);
        let soon = self.last.filter(|_| !self.has_failed).map(|(ended, _)| ended + REST_REFUSED);
        soon.map_or(earliest, |soon| soon.min(earliest))
    }

    /// Whether what is known is old, to somebody who only looks.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.measured.is_none() || (self.is_changed && !self.is_fresh(now))
    }

    fn fits(&self, bytes: i64, limit: i64) -> bool {
        self.kept().saturating_add(bytes) <= limit
    }

    fn take(&mut self, bytes: i64) {
        self.added = self.added.saturating_add(bytes);
        self.pending = self.pending.saturating_add(bytes);
    }

    /// Whether the last measurement says so by itself, and nothing has changed since.
    fn is_surely_full(&self, bytes: i64, limit: i64, now: Instant) -> bool {
        let is_full = self.measured.is_some_and(|measured| measured.saturating_add(bytes) > limit);
        is_full && !self.is_changed && self.is_fresh(now)
    }

    fn is_due(&self, limit: i64, now: Instant) -> bool {
        let is_news = self.measured.is_none() || self.added > limit / DUE_PART;
        is_news && !self.is_fresh(now)
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.last.is_some_and(|(ended, _)| now.duration_since(ended) < FRESH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: i64 = 1_600;

    /// A measurement that takes no time.
    fn measure(gauge: &mut Gauge, bytes: i64, now: Instant) {
        let seen = gauge.begin();
        gauge.finish(seen, Some(bytes), (now, now));
    }

    #[test]
    fn the_first_changes_go_on_while_the_app_is_measured_and_later_ones_wait_for_that() {
        let (mut gauge, now) = (Gauge::default(), Instant::now());
        assert_eq!(gauge.ask(10, LIMIT, now), Answer::FitsAndIsDue);
        let mut answer = Answer::Fits;
        while answer != Answer::Unknown {
            answer = gauge.ask(10, LIMIT, now);
        }
        assert_eq!(gauge.kept(), LIMIT / WAIT_PART + 10, "so much is added unseen and no more");
    }

    #[test]
    fn what_is_added_is_measured_from_a_sixteenth_of_the_limit_on_and_not_all_the_time() {
        let (mut gauge, now) = (Gauge::default(), Instant::now());
        measure(&mut gauge, 0, now);
        assert_eq!(gauge.ask(100, LIMIT, now), Answer::Fits);
        assert_eq!(gauge.ask(1, LIMIT, now), Answer::Fits, "it was measured just now");
        assert_eq!(gauge.ask(1, LIMIT, now + FRESH), Answer::FitsAndIsDue);
        gauge.end(102);
        measure(&mut gauge, 102, now + FRESH);
        assert_eq!(gauge.ask(1, LIMIT, now + 2 * FRESH), Answer::Fits);
    }

    #[test]
    fn who_is_full_is_measured_before_it_is_told_so_and_not_again_until_something_changes() {
        let (mut gauge, now) = (Gauge::default(), Instant::now());
        measure(&mut gauge, LIMIT - 100, now);
        // It may have replaced what was there.
        assert_eq!(gauge.ask(100, LIMIT, now), Answer::Fits);
        gauge.end(100);
        assert_eq!(gauge.ask(1, LIMIT, now), Answer::FullUnlessMeasured);
        measure(&mut gauge, LIMIT, now);
        assert_eq!(gauge.ask(1, LIMIT, now), Answer::Full);
        assert!(!gauge.settle(1, LIMIT));
        // Something was removed; something may have run out.
        gauge.end(0);
        assert_eq!(gauge.ask(1, LIMIT, now), Answer::FullUnlessMeasured);
        measure(&mut gauge, LIMIT, now);
        assert_eq!(gauge.ask(1, LIMIT, now), Answer::Full);
        assert_eq!(gauge.ask(1, LIMIT, now + FRESH), Answer::FullUnlessMeasured);
    }

    #[test]
    fn a_change_that_is_not_over_when_a_measurement_begins_still_counts_after_it() {
        let (mut gauge, now) = (Gauge::default(), Instant::now());
        gauge.ask(100, LIMIT, now);
        gauge.end(100);
        gauge.ask(50, LIMIT, now);
        let seen = gauge.begin();
        gauge.end(50);
        gauge.finish(seen, Some(100), (now, now));
        assert_eq!(gauge.kept(), 150);
    }

    #[test]
    fn a_measurement_that_failed_leaves_what_was_known() {
        let (mut gauge, now) = (Gauge::default(), Instant::now());
        measure(&mut gauge, 100, now);
        gauge.ask(50, LIMIT, now);
        gauge.end(50);
        let seen = gauge.begin();
        gauge.finish(seen, None, (now, now));
        assert_eq!(gauge.kept(), 150);
    }

    #[test]
    fn who_would_be_refused_waits_two_seconds_for_a_measurement_at_most() {
        for (took_ms, rest_ms) in [(10_000, 2_000), (100, 400)] {
            let (mut gauge, now) = (Gauge::default(), Instant::now());
            let (seen, ended) = (gauge.begin(), now + Duration::from_millis(took_ms));
            gauge.finish(seen, Some(LIMIT), (now, ended));
            assert_eq!(gauge.earliest_for_refused(ended), ended + Duration::from_millis(rest_ms));
        }
    }

    #[test]
    fn attack_measuring_all_the_time() {
        let (mut gauge, now) = (Gauge::default(), Instant::now());
        let (seen, took) = (gauge.begin(), Duration::from_secs(3));
        gauge.finish(seen, Some(0), (now, now + took));
        assert_eq!(gauge.earliest(now + took), now + took * 5);
        assert_eq!(Gauge::default().earliest(now), now);
        assert_eq!(Gauge::default().earliest_for_refused(now), now);
        // One that takes a time for nothing keeps others waiting.
        let seen = gauge.begin();
        gauge.finish(seen, None, (now, now + took));
        assert_eq!(gauge.earliest_for_refused(now + took), now + took * 5);
    }
}
