//! How many workers have something to do at once: as many as there are where nobody is kept apart,
//! which is one for each core.
//!
//! Where tenants are kept apart there are many more. A worker that is sent one request while the cores
//! are busy wakes up for it, with caches that others have filled, and again for the next one. So what
//! comes for it gathers while others have their turn, and is sent in one piece. A core is not left
//! without work by this, and nobody waits for longer than [`PATIENCE`], whatever those before them do.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a worker that says nothing keeps its turn, and how long another waits for one. An ordinary
/// request takes some hundredths of it.
const PATIENCE: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Pace {
    at_once: usize,
    /// Who was sent something and has not answered, since when.
    busy: Vec<(u64, Instant)>,
    /// For whom something is there, since when.
    waiting: VecDeque<(u64, Instant)>,
}

impl Pace {
    pub(super) const fn new(at_once: usize) -> Self {
        Self { at_once, busy: Vec::new(), waiting: VecDeque::new() }
    }

    /// Whether a worker may be sent what is there for it; when not, the time by which it may.
    pub(super) fn ask(&mut self, worker: u64, now: Instant) -> Result<(), Instant> {
        if self.busy.iter().any(|(busy, _)| *busy == worker) {
            return Ok(());
        }
        let place = self.waiting.iter().position(|(waiting, _)| *waiting == worker);
        let until = place.map_or(now, |place| self.waiting[place].1) + PATIENCE;
        if place.unwrap_or(self.waiting.len()) >= self.free() {
            self.busy.retain(|(_, since)| *since + PATIENCE > now);
        }
        if until > now && place.unwrap_or(self.waiting.len()) >= self.free() {
            if place.is_none() {
                self.waiting.push_back((worker, now));
            }
            return Err(until);
        }
        place.map(|place| self.waiting.remove(place));
        self.busy.push((worker, now));
        Ok(())
    }

    /// Whether something is there for a worker whose turn has not come. It looks again by itself when its patience ends.
    pub(super) fn is_waiting(&self, worker: u64) -> bool {
        self.waiting.iter().any(|(waiting, _)| *waiting == worker)
    }

    /// A worker has answered, or is gone. Answers who may be sent something now.
    pub(super) fn heard(&mut self, worker: u64) -> Option<u64> {
        let place = self.busy.iter().position(|(busy, _)| *busy == worker)?;
        self.busy.swap_remove(place);
        // Those before have been told already.
        let next = self.free().checked_sub(1)?;
        self.waiting.get(next).map(|(worker, _)| *worker)
    }

    /// The same, of a worker that will not come back.
    pub(super) fn forget(&mut self, worker: u64) -> Option<u64> {
        self.waiting.retain(|(waiting, _)| *waiting != worker);
        self.heard(worker)
    }

    fn free(&self) -> usize {
        self.at_once.saturating_sub(self.busy.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_busy_than_there_are_cores() {
        let (mut pace, now) = (Pace::new(2), Instant::now());
        assert_eq!((pace.ask(1, now), pace.ask(2, now)), (Ok(()), Ok(())));
        assert_eq!(pace.ask(3, now), Err(now + PATIENCE));
        assert!(pace.is_waiting(3) && !pace.is_waiting(1));
        assert_eq!(pace.ask(1, now), Ok(()), "who is at it gets more");
        assert_eq!(pace.heard(2), Some(3));
        assert_eq!(pace.ask(3, now), Ok(()));
    }

    #[test]
    fn who_waits_longest_is_next() {
        let (mut pace, now) = (Pace::new(1), Instant::now());
        assert_eq!(pace.ask(1, now), Ok(()));
        for worker in [2, 3] {
            assert!(pace.ask(worker, now).is_err());
        }
        assert_eq!(pace.heard(1), Some(2));
        assert!(pace.ask(1, now).is_err(), "it may not overtake");
        assert!(pace.ask(3, now).is_err(), "nor may the second");
        assert_eq!(pace.ask(2, now), Ok(()));
        assert_eq!(pace.heard(2), Some(3));
    }

    #[test]
    fn nobody_waits_for_one_that_says_nothing() {
        let (mut pace, now) = (Pace::new(1), Instant::now());
        assert_eq!(pace.ask(1, now), Ok(()));
        assert_eq!(pace.ask(2, now), Err(now + PATIENCE));
        let later = now + PATIENCE;
        assert_eq!(pace.ask(2, later), Ok(()), "the first has lost its turn");
        assert_eq!(pace.ask(3, later), Err(later + PATIENCE));
        assert_eq!(pace.heard(1), None, "it has no turn to give");
        assert_eq!(pace.heard(2), Some(3));
    }

    #[test]
    fn nobody_waits_for_one_that_is_gone() {
        let (mut pace, now) = (Pace::new(1), Instant::now());
        assert_eq!(pace.ask(1, now), Ok(()));
        for worker in [2, 3] {
            assert!(pace.ask(worker, now).is_err());
        }
        assert_eq!(pace.forget(2), None);
        assert_eq!(pace.forget(1), Some(3));
        assert_eq!(pace.ask(3, now), Ok(()));
        assert!(pace.waiting.is_empty());
    }
}
