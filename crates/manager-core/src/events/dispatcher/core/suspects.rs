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
    waiting: VecDeque<i64>,
    /// Those that were let go, with their weights.
    at_large: HashMap<i64, u32>,
    load: u32,
}

impl Suspects {
    pub(super) fn push(&mut self, id: i64) {
        self.waiting.push_back(id);
    }

    /// The next that may run beside those that do, with its strikes so far; `strikes_of` knows which
    /// still wait, because some were let go of meanwhile, and perhaps came back.
    pub(super) fn pop(&mut self, strikes_of: impl Fn(i64) -> Option<u16>) -> Option<(i64, u16)> {
        while let Some(&id) = self.waiting.front() {
            let Some(strikes) = strikes_of(id).filter(|_| !self.at_large.contains_key(&id)) else {
                self.waiting.pop_front();
                continue;
            };
            let weight = WEIGHTS.get(usize::from(strikes)).copied().unwrap_or(LOAD_MAX);
            if self.load + weight > LOAD_MAX {
                return None;
            }
            self.waiting.pop_front();
            self.at_large.insert(id, weight);
            self.load += weight;
            return Some((id, strikes));
        }
        None
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
        let strikes_of = |id| match id {
            1 | 3 => Some(0),
            2 => Some(2),
            _ => None,
        };
        for id in [9, 1, 1, 2] {
            suspects.push(id);
        }
        assert_eq!(suspects.pop(strikes_of), Some((1, 0)));
        assert_eq!(suspects.pop(strikes_of), None, "it is let go once, and nothing beside it");
        suspects.finished(1);
        assert_eq!(suspects.pop(strikes_of), Some((2, 2)));
        suspects.push(3);
        assert_eq!(suspects.pop(strikes_of), None);
    }
}
