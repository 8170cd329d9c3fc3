//! How many workers have something to do at once: as many as there are where nobody is kept apart,
//! which is one for each core, or as many as it takes to have some frames under way for each core.
//!
//! Where tenants are kept apart there are many more. A worker that is sent one request while the cores
//! are busy wakes up for it, with caches that others have filled, and again for the next one. So what
//! comes for it gathers while others have their turn, and is sent in one piece. A core is not left
//! without work by this: where each worker has one frame only, several go at once, or cores would wait
//! for the parent between any two of them. And nobody waits for longer than [`PATIENCE`], whatever those
//! before them do.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a worker that says nothing keeps its turn, and how long another waits for one. An ordinary
/// request takes some hundredths of it.
const PATIENCE: Duration = Duration::from_millis(1);
/// What is under way for each core before others have to wait. Less, and cores wait where each worker has one request;
/// more, and less gathers where each has several (ADR 36).
const FRAMES_PER_CORE: usize = 3;

#[derive(Debug)]
pub(super) struct Pace {
    at_once: usize,
    busy: Vec<Busy>,
    /// For whom something is there, since when.
    waiting: VecDeque<(u64, Instant)>,
}

/// Who was sent something and has not answered.
#[derive(Debug)]
struct Busy {
    worker: u64,
    since: Instant,
    frames: usize,
}

impl Pace {
    pub(super) const fn new(at_once: usize) -> Self {
        Self { at_once, busy: Vec::new(), waiting: VecDeque::new() }
    }

    /// Whether a worker may be sent the frames that are there for it; when not, the time by which it may.
    pub(super) fn ask(&mut self, worker: u64, frames: usize, now: Instant) -> Result<(), Instant> {
        if let Some(busy) = self.busy.iter_mut().find(|busy| busy.worker == worker) {
            busy.frames += frames;
            return Ok(());
        }
        let place = self.waiting.iter().position(|(waiting, _)| *waiting == worker);
        let until = place.map_or(now, |place| self.waiting[place].1) + PATIENCE;
        if place.unwrap_or(self.waiting.len()) >= self.free() {
            self.busy.retain(|busy| busy.since + PATIENCE > now);
        }
        if until > now && place.unwrap_or(self.waiting.len()) >= self.free() {
            if place.is_none() {
                self.waiting.push_back((worker, now));
            }
            return Err(until);
        }
        place.map(|place| self.waiting.remove(place));
        self.busy.push(Busy { worker, since: now, frames });
        Ok(())
    }

    /// Whether something is there for a worker whose turn has not come. It looks again by itself when its patience ends.
    pub(super) fn is_waiting(&self, worker: u64) -> bool {
        self.waiting.iter().any(|(waiting, _)| *waiting == worker)
    }

    /// A worker has answered, or is gone. Answers who may be sent something now; some of them have been told before.
    pub(super) fn heard(&mut self, worker: u64) -> impl Iterator<Item = u64> {
        let place = self.busy.iter().position(|busy| busy.worker == worker);
        let had_turn = place.map(|place| self.busy.swap_remove(place)).is_some();
        let next = if had_turn { self.free() } else { 0 };
        self.waiting.iter().take(next).map(|(worker, _)| *worker)
    }

    /// The same, of a worker that will not come back.
    pub(super) fn forget(&mut self, worker: u64) -> impl Iterator<Item = u64> {
        self.waiting.retain(|(waiting, _)| *waiting != worker);
        self.heard(worker)
    }

    /// How many more may have their turn, each with one frame at least.
    fn free(&self) -> usize {
        let under_way: usize = self.busy.iter().map(|busy| busy.frames).sum();
        let by_frames = (self.at_once * FRAMES_PER_CORE).saturating_sub(under_way);
        self.at_once.saturating_sub(self.busy.len()).max(by_frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than what is under way for a core.
    const MANY: usize = FRAMES_PER_CORE;

    fn heard(pace: &mut Pace, worker: u64) -> Vec<u64> {
        pace.heard(worker).collect()
    }

    #[test]
    fn no_more_are_busy_than_there_are_cores() {
        let (mut pace, now) = (Pace::new(2), Instant::now());
        assert_eq!((pace.ask(1, MANY, now), pace.ask(2, MANY, now)), (Ok(()), Ok(())));
        assert_eq!(pace.ask(3, MANY, now), Err(now + PATIENCE));
        assert!(pace.is_waiting(3) && !pace.is_waiting(1));
        assert_eq!(pace.ask(1, MANY, now), Ok(()), "who is at it gets more");
        assert_eq!(heard(&mut pace, 2), [3]);
        assert_eq!(pace.ask(3, MANY, now), Ok(()));
    }

    #[test]
    fn as_many_are_busy_as_it_takes_to_have_enough_under_way() {
        let (mut pace, now) = (Pace::new(2), Instant::now());
        let most = 2 * FRAMES_PER_CORE as u64;
        for worker in 0..most {
            assert_eq!(pace.ask(worker, 1, now), Ok(()), "{worker}");
        }
        for worker in most..most + 3 {
            assert_eq!(pace.ask(worker, 1, now), Err(now + PATIENCE));
        }
        assert_eq!(heard(&mut pace, 0), [most]);
        assert_eq!(heard(&mut pace, 1), [most, most + 1], "the first has not asked again yet");
        assert_eq!((pace.ask(most, 1, now), pace.ask(most + 1, 1, now)), (Ok(()), Ok(())));
        assert!(pace.ask(most + 2, 1, now).is_err());
    }

    #[test]
    fn who_is_sent_more_meanwhile_has_that_under_way_too() {
        let (mut pace, now) = (Pace::new(1), Instant::now());
        assert_eq!((pace.ask(1, 1, now), pace.ask(1, MANY, now)), (Ok(()), Ok(())));
        assert!(pace.ask(2, 1, now).is_err());
    }

    #[test]
    fn who_waits_longest_is_next() {
        let (mut pace, now) = (Pace::new(1), Instant::now());
        assert_eq!(pace.ask(1, MANY, now), Ok(()));
        for worker in 2..2 + FRAMES_PER_CORE as u64 {
            assert!(pace.ask(worker, MANY, now).is_err());
        }
        assert_eq!(heard(&mut pace, 1)[0], 2);
        assert!(pace.ask(1, MANY, now).is_err(), "it may not overtake");
        assert_eq!(pace.ask(2, MANY, now), Ok(()));
        assert!(pace.ask(3, MANY, now).is_err());
        assert_eq!(heard(&mut pace, 2)[0], 3);
    }

    #[test]
    fn nobody_waits_for_one_that_says_nothing() {
        let (mut pace, now) = (Pace::new(1), Instant::now());
        assert_eq!(pace.ask(1, MANY, now), Ok(()));
        assert_eq!(pace.ask(2, MANY, now), Err(now + PATIENCE));
        let later = now + PATIENCE;
        assert_eq!(pace.ask(2, MANY, later), Ok(()), "the first has lost its turn");
        assert_eq!(pace.ask(3, MANY, later), Err(later + PATIENCE));
        assert!(heard(&mut pace, 1).is_empty(), "it has no turn to give");
        assert_eq!(heard(&mut pace, 2), [3]);
    }

    #[test]
    fn nobody_waits_for_one_that_is_gone() {
        let (mut pace, now) = (Pace::new(1), Instant::now());
        assert_eq!(pace.ask(1, MANY, now), Ok(()));
        for worker in [2, 3] {
            assert!(pace.ask(worker, MANY, now).is_err());
        }
        assert_eq!(pace.forget(2).count(), 0);
        assert_eq!(pace.forget(1).collect::<Vec<_>>(), [3]);
        assert_eq!(pace.ask(3, MANY, now), Ok(()));
        assert!(pace.waiting.is_empty());
    }
}
