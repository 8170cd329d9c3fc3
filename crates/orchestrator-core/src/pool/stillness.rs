//! Whether a worker with nothing to do does nothing.
//!
//! It sleeps until it is sent something: behind the filter there is nothing else to wait for, and no clock that could wake it.
//! One that burns CPU a while after its last execution has ended runs code that is not ours, on nobody's account
//! and without a deadline. Nothing is looked at while executions follow each other, and nobody wakes for a worker that has
//! been seen asleep. One that is told to leave gives back all its memory, and has a deadline for that.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

/// From one look to the next. The first comes as long after the last execution: giving back what it had takes
/// milliseconds.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What a worker that has nothing to do may burn after the first look.
const BURNT_MAX: Duration = Duration::from_millis(20);

/// What was seen of one worker since it has had nothing to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stillness {
    next_look: Option<Instant>,
    /// The CPU time that it had had at the first look, and at the last.
    seen: Option<(Duration, Duration)>,
}

impl Stillness {
    /// It has something to do.
    pub(super) const fn busy(&mut self) {
        self.next_look = None;
    }

    /// Its last execution has ended.
    pub(super) fn idle(&mut self, now: Instant) {
        *self = Self { next_look: Some(now + LOOK_EVERY), seen: None };
    }

    pub(super) const fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Looks, if it is time to; true when the worker burns CPU. `cpu_time` is what it has had since its start, if that can be
    /// seen.
    pub(super) fn look(&mut self, now: Instant, cpu_time: impl FnOnce() -> Option<Duration>) -> bool {
        if self.next_look.is_none_or(|at| now < at) {
            return false;
        }
        let Some(cpu_time) = cpu_time() else {
            self.next_look = None;
            return false;
        };
        let (first, last) = self.seen.unwrap_or((cpu_time, Duration::MAX));
        self.seen = Some((first, cpu_time));
        // However little it gets of a busy machine: it is let alone when it has had none.
        self.next_look = (cpu_time != last).then_some(now + LOOK_EVERY);
        cpu_time.saturating_sub(first) >= BURNT_MAX
    }
}

/// The CPU time that a process has had since its start; nothing if it is gone.
pub(super) fn cpu_time(pid: u32) -> Option<Duration> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?);
    let clock: ClockId = clock_getcpuclockid(pid).ok()?;
    clock.now().ok().map(Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every second at a worker that has nothing to do, and that burns so much in each; answers at which look it was
    /// caught, and whether there is another look.
    fn watch(burnt_ms: impl IntoIterator<Item = u64>) -> (Option<usize>, bool) {
        let (mut stillness, mut now) = (Stillness::default(), Instant::now());
        stillness.idle(now);
        let mut cpu_time = Duration::from_secs(60);
        for (number, burnt_ms) in burnt_ms.into_iter().enumerate() {
            cpu_time += Duration::from_millis(burnt_ms);
            now += LOOK_EVERY;
            if stillness.look(now, || Some(cpu_time)) {
                return (Some(number), true);
            }
        }
        (None, stillness.next_look().is_some())
    }

    #[test]
    fn one_that_sleeps_is_looked_at_twice() {
        assert_eq!(watch([900]), (None, true), "what it did before it fell asleep");
        assert_eq!(watch([900, 0]), (None, false));
    }

    #[test]
    fn attack_one_that_works_on_is_caught_however_little_of_the_machine_it_gets() {
        assert_eq!(watch([0, 1000]).0, Some(1));
        assert_eq!(watch([0, 3, 3, 3, 3, 3, 3, 3]).0, Some(7));
        assert_eq!(watch([0, 3, 3, 0]), (None, false));
    }

    #[test]
    fn nobody_looks_while_there_is_something_to_do() {
        let (mut stillness, now) = (Stillness::default(), Instant::now());
        stillness.idle(now);
        stillness.busy();
        assert_eq!(stillness.next_look(), None);
        assert!(!stillness.look(now + LOOK_EVERY, || unreachable!("it is not looked at")));
        stillness.idle(now);
        assert!(!stillness.look(now, || unreachable!("it is too soon")));
        assert!(!stillness.look(now + LOOK_EVERY, || None));
        assert_eq!(stillness.next_look(), None, "what cannot be seen is not looked for again");
    }

    #[test]
    fn the_time_of_a_process_is_seen_while_it_is_there() {
        let own = cpu_time(std::process::id()).unwrap();
        let mut burnt = 0_u64;
        while cpu_time(std::process::id()).unwrap() == own {
            burnt = std::hint::black_box(burnt + 1);
        }
        assert_eq!(cpu_time(u32::MAX), None);
    }
}
