//! Rows that may be why an earlier owner died. They run few at a time, each written down before, so
//! that the one that does it again is found: the more strikes a row has, the fewer beside it.

use std::collections::{HashMap, VecDeque};

use super::STRIKES_MAX;

/// Weights that run together at most.
const LOAD_MAX: u32 = 32;
/// By strikes: 32 together at first, four that have one strike, and one alone that has two.
const WEIGHTS: [u32; STRIKES_MAX as usize] = [1, 8, 32];

#[derive(Debug, Default)]
pub(super) struct Suspects {
    waiting: VecDeque<(i64, u16)>,
    /// Those that were let go, with their weights.
    at_large: HashMap<i64, u32>,
    load: u32,
}

impl Suspects {
    pub(super) fn push(&mut self, id: i64, strikes: u16) {
        self.waiting.push_back((id, strikes));
    }

    /// The next that may run beside those that do, with its strikes so far.
    pub(super) fn pop(&mut self) -> Option<(i64, u16)> {
        let &(id, strikes) = self.waiting.front()?;
        let weight = WEIGHTS.get(usize::from(strikes)).copied().unwrap_or(LOAD_MAX);
        if self.load + weight > LOAD_MAX {
            return None;
        }
        self.waiting.pop_front();
        if self.at_large.insert(id, weight).is_none() {
            self.load += weight;
        }
        Some((id, strikes))
    }

    /// Whether it was let go, with a strike.
    pub(super) fn is_at_large(&self, id: i64) -> bool {
        self.at_large.contains_key(&id)
    }

    pub(super) fn finished(&mut self, id: i64) {
        self.load -= self.at_large.remove(&id).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_two_strikes_runs_alone() {
        let mut suspects = Suspects::default();
        suspects.push(1, 0);
        suspects.push(2, 2);
        assert_eq!(suspects.pop(), Some((1, 0)));
        assert_eq!(suspects.pop(), None);
        suspects.finished(1);
        assert_eq!(suspects.pop(), Some((2, 2)));
        suspects.push(3, 0);
        assert_eq!(suspects.pop(), None);
    }
}
