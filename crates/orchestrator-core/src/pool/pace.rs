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
    waiting: VecDeque<Waiting>,
    /// Somebody lost its turn by silence, and those who wait have not been told.
    has_lost: bool,
}

/// For whom something is there.
#[derive(Debug)]
struct Waiting {
    worker: u64,
    since: Instant,
    frames: usize,
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
        Self { at_once, busy: Vec::new(), waiting: VecDeque::new(), has_lost: false }
    }

    /// Whether a worker may be sent the frames that are there for it; when not, the time by which it may.
    pub(super) fn ask(&mut self, worker: u64, frames: usize, now: Instant) -> Result<(), Instant> {
        if let Some(busy) = self.busy.iter_mut().find(|busy| busy.worker == worker) {
            busy.frames += frames;
            return Ok(());
        }
        let place = self.waiting.iter().position(|waiting| waiting.worker == worker);
        let since = place.map_or(now, |place| self.waiting[place].since);
        let (until, ahead) = (since + PATIENCE, place.unwrap_or(self.waiting.len()));
        if !self.may_go(ahead) {
            let before = self.busy.len();
            self.busy.retain(|busy| busy.since + PATIENCE > now);
            self.has_lost |= self.busy.len() < before;
        }
        if until > now && !self.may_go(ahead) {
            match place {
                Some(place) => self.waiting[place].frames = frames,
                None => self.waiting.push_back(Waiting { worker, since, frames }),
            }
            return Err(until);
        }
        place.map(|place| self.waiting.remove(place));
        self.busy.push(Busy { worker, since: now, frames });
        Ok(())
    }

    /// Whether something is there for a worker whose turn has not come. It looks again by itself when its patience ends.
    pub(super) fn is_waiting(&self, worker: u64) -> bool {
        self.waiting.iter().any(|waiting| waiting.worker == worker)
    }

    /// A worker has answered, or is gone. Answers who may be sent something now; some of them have been told before.
    pub(super) fn heard(&mut self, worker: u64) -> impl Iterator<Item = u64> {
        let place = self.busy.iter().position(|busy| busy.worker == worker);
        let had_turn = place.map(|place| self.busy.swap_remove(place)).is_some();
        let tells = had_turn | std::mem::take(&mut self.has_lost);
        let this = &*self;
        let may_go =
            this.waiting.iter().enumerate().take_while(move |(ahead, _)| tells && this.may_go(*ahead));
        may_go.map(|(_, waiting)| waiting.worker)
    }

    /// The same, of a worker that will not come back.
    pub(super) fn forget(&mut self, worker: u64) -> impl Iterator<Item = u64> {
        self.waiting.retain(|waiting| waiting.worker != worker);
        self.heard(worker)
    }

    /// Whether somebody may have its turn before whom so many wait, who go first.
    fn may_go(&self, ahead: usize) -> bool {
        let under_way: usize = self.busy.iter().map(|busy| busy.frames).sum();
        let before: usize = self.waiting.iter().take(ahead).map(|waiting| waiting.frames).sum();
        self.busy.len() + ahead < self.at_once || under_way + before < self.at_once * FRAMES_PER_CORE
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
        for worker in [2, 3] {
            assert!(pace.ask(worker, MANY, now).is_err());
        }
        assert_eq!(heard(&mut pace, 1), [2]);
        assert!(pace.ask(1, MANY, now).is_err(), "it may not overtake");
        assert!(pace.ask(3, MANY, now).is_err(), "nor may the second");
        assert_eq!(pace.ask(2, MANY, now), Ok(()));
        assert_eq!(heard(&mut pace, 2), [3]);
    }

    #[test]
    fn a_newcomer_does_not_take_what_there_is_for_those_who_have_been_told() {
        let (mut pace, now) = (Pace::new(2), Instant::now());
        assert_eq!((pace.ask(1, MANY, now), pace.ask(2, MANY, now)), (Ok(()), Ok(())));
        assert!(pace.ask(3, MANY, now).is_err());
        assert_eq!(heard(&mut pace, 1), [3]);
        assert!(pace.ask(9, 2 * MANY, now).is_err());
        assert_eq!(pace.ask(3, MANY, now), Ok(()));
    }

    #[test]
    fn who_waits_is_told_when_others_have_lost_their_turn_by_silence() {
        let (mut pace, start) = (Pace::new(2), Instant::now());
        assert_eq!((pace.ask(1, MANY, start), pace.ask(2, MANY, start)), (Ok(()), Ok(())));
        for worker in 3..7 {
            assert!(pace.ask(worker, 1, start + PATIENCE / 2 * u32::from(worker > 3)).is_err());
        }
        assert_eq!(pace.ask(3, 1, start + PATIENCE), Ok(()));
        assert_eq!(heard(&mut pace, 1), [4, 5, 6], "though it had no turn to give any more");
        assert!(heard(&mut pace, 2).is_empty(), "they have been told");
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
