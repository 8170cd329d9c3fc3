//! Whose turn it is: guests that have burnt little go before guests that have burnt much.
//!
//! Most executions end within their first slices, and whoever asked for one of them should not
//! notice that others run for seconds. Guests are queued in classes by what they have burnt; within
//! a class they take turns. A class that is passed over too often gets a turn nevertheless, so that
//! nobody waits forever. Pure bookkeeping, without clock or guests.

use std::collections::VecDeque;

/// Fuel up to which a guest belongs to each class but the last: a millisecond of CPU, which most
/// requests do not need, and ten, which few need.
const CLASS_FUEL: [u64; CLASSES - 1] = [10_000_000, 100_000_000];
const CLASSES: usize = 3;
/// Turns for which a class is passed over at most. So somebody who runs for seconds keeps a
/// seventeenth of the time beside guests that use their slices up, and more beside shorter ones.
const PATIENCE: u32 = 16;

/// How much a guest has burnt, in steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class(usize);

impl Class {
    pub(crate) fn of(fuel: u64) -> Self {
        Self(CLASS_FUEL.iter().take_while(|most| fuel >= **most).count())
    }

    /// Whether the guests in it have run for so long that nobody expects them to end at once.
    pub(crate) const fn is_long(self) -> bool {
        self.0 > 0
    }
}

/// Slots whose guests have something to do.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    classes: [VecDeque<u16>; CLASSES],
    /// Turns that others had since a class with somebody in it had one.
    passed_over: [u32; CLASSES],
}

impl Turns {
    /// Queues a slot, behind those of its class.
    pub(crate) fn push(&mut self, slot: u16, class: Class) {
        self.classes[class.0].push_back(slot);
    }

    /// Takes a slot out, wherever it is.
    pub(crate) fn remove(&mut self, slot: u16) {
        self.classes.iter_mut().for_each(|class| class.retain(|other| *other != slot));
    }

    pub(crate) fn len(&self) -> usize {
        self.classes.iter().map(VecDeque::len).sum()
    }

    pub(crate) fn has_long(&self) -> bool {
        self.classes.iter().enumerate().any(|(class, slots)| Class(class).is_long() && !slots.is_empty())
    }

    /// The class whose turn it is: the shortest, unless a longer one has been patient for too long.
    pub(crate) fn next_class(&self) -> Option<Class> {
        let shortest = self.classes.iter().position(|class| !class.is_empty())?;
        let is_due = |class: &usize| !self.classes[*class].is_empty() && self.passed_over[*class] >= PATIENCE;
        Some(Class((shortest + 1..CLASSES).rev().find(is_due).unwrap_or(shortest)))
    }

    /// The slot whose turn it is. It is out of the queue then.
    pub(crate) fn pop(&mut self) -> Option<u16> {
        let Class(chosen) = self.next_class()?;
        for class in (0..CLASSES).filter(|class| *class != chosen) {
            let waits = !self.classes[class].is_empty();
            self.passed_over[class] = if waits { self.passed_over[class] + 1 } else { 0 };
        }
        self.passed_over[chosen] = 0;
        self.classes[chosen].pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Class = Class(0);
    const LONGER: Class = Class(1);
    const LONG: Class = Class(2);

    /// So many turns, with everybody who had one waiting for the next at once.
    fn run(turns: &mut Turns, class_of: impl Fn(u16) -> Class, count: usize) -> Vec<u16> {
        let turn = |turns: &mut Turns| {
            let slot = turns.pop().unwrap();
            turns.push(slot, class_of(slot));
            slot
        };
        (0..count).map(|_| turn(turns)).collect()
    }

    #[test]
    fn a_new_guest_goes_before_everybody_who_has_run_for_long() {
        let mut turns = Turns::default();
        (0..15).for_each(|slot| turns.push(slot, LONG));
        turns.push(15, SHORT);
        assert_eq!((turns.len(), turns.pop()), (16, Some(15)));
    }

    #[test]
    fn guests_of_one_class_take_turns() {
        let mut turns = Turns::default();
        (0..3).for_each(|slot| turns.push(slot, LONG));
        assert_eq!(run(&mut turns, |_| LONG, 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn nobody_waits_for_more_than_its_patience_beside_guests_that_never_rest() {
        let mut turns = Turns::default();
        turns.push(0, SHORT);
        turns.push(1, LONGER);
        turns.push(2, LONG);
        let class_of = |slot: u16| Class(slot.into());
        let seen = run(&mut turns, class_of, 1_000);
        for slot in [1, 2] {
            let at: Vec<usize> = (0..seen.len()).filter(|at| seen[*at] == slot).collect();
            let longest = at.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            assert!(longest <= PATIENCE as usize + 2, "slot {slot} waited for {longest} turns");
            assert!(at.len() <= 1_000 / PATIENCE as usize, "slot {slot} had {} turns", at.len());
        }
    }

    #[test]
    fn patience_does_not_grow_while_nobody_waits() {
        let mut turns = Turns::default();
        turns.push(0, SHORT);
        run(&mut turns, |_| SHORT, 100);
        turns.push(1, LONG);
        assert_eq!(turns.next_class(), Some(SHORT));
    }

    #[test]
    fn a_class_is_a_matter_of_fuel() {
        let class = |fuel| Class::of(fuel);
        assert_eq!([class(0), class(9_999_999), class(10_000_000)], [SHORT, SHORT, LONGER]);
        assert_eq!([class(99_999_999), class(100_000_000), class(u64::MAX)], [LONGER, LONG, LONG]);
        assert!(!SHORT.is_long() && LONGER.is_long());
    }

    #[test]
    fn a_slot_that_is_taken_out_has_no_turn() {
        let mut turns = Turns::default();
        turns.push(0, LONG);
        turns.push(1, SHORT);
        turns.remove(1);
        turns.remove(7);
        assert_eq!((turns.pop(), turns.pop(), turns.len()), (Some(0), None, 0));
    }
}
