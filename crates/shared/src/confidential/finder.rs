//! Finds many values in a text in one pass: an Aho-Corasick automaton that knows of each state only the longest value
//! that ends there, and joins occurrences that overlap.
//!
//! The libraries' automata either list all values that end at a state, which values within values make gigabytes of,
//! or pass over a value that begins within another one and would leave the rest of it in the text. This one has at
//! most as many states as the values have bytes, with 13 bytes for each.

use std::collections::VecDeque;
use std::ops::Range;

use zeroize::Zeroizing;

const ROOT: usize = 0;

/// Never shown: its labels are the values.
pub(super) struct Finder {
    /// In the order of what leads to them, the shorter first: so the children of each are one range, which ends where
    /// that of the next one begins. A last one stands for the end.
    nodes: Vec<Node>,
    /// By which byte its parent leads to each node; sorted among the children of one.
    labels: Zeroizing<Vec<u8>>,
    /// The first node to which so many bytes lead.
    levels: Vec<usize>,
}

#[derive(Default, Clone, Copy)]
struct Node {
    first_child: u32,
    /// The node of the longest end of what leads here that leads somewhere, too.
    fallback: u32,
    /// Bytes of the longest value that ends here; 0 when none does.
    longest: u32,
}

impl Finder {
    pub(super) fn new<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut values: Vec<&[u8]> = values.filter(|value| !value.is_empty()).collect();
        values.sort_unstable();
        // Enough for all, so that nothing is moved and left behind.
        let nodes_max = values.iter().map(|value| value.len()).sum::<usize>() + 2;
        let mut finder = Self {
            nodes: Vec::with_capacity(nodes_max),
            labels: Zeroizing::new(Vec::with_capacity(nodes_max)),
            levels: Vec::new(),
        };
        finder.nodes.push(Node::default());
        finder.labels.push(0);
        // Nodes whose children are to be made: the values that go on behind each, and how many bytes lead there.
        let mut open: VecDeque<(&[&[u8]], usize)> = VecDeque::from([(values.as_slice(), 0)]);
        let mut node = ROOT;
        while let Some((behind, depth)) = open.pop_front() {
            if finder.levels.len() == depth {
                finder.levels.push(node);
            }
            finder.nodes[node].first_child = number(finder.nodes.len());
            // Those that end here are the first in their order.
            let ended = behind.partition_point(|value| value.len() == depth);
            for same in behind[ended..].chunk_by(|one, other| one[depth] == other[depth]) {
                finder.add(node, same[0][depth], (same[0].len() == depth + 1).then_some(depth + 1));
                open.push_back((same, depth + 1));
            }
            node += 1;
        }
        let end = Node { first_child: number(finder.nodes.len()), ..Node::default() };
        finder.nodes.push(end);
        finder
    }

    /// Where values are, in order; those that overlap are one range.
    pub(super) fn ranges(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        let mut node = ROOT;
        for (at, byte) in text.iter().enumerate() {
            node = self.next(node, *byte);
            let longest = self.nodes[node].longest as usize;
            if longest > 0 {
                cover(&mut ranges, at + 1 - longest..at + 1);
            }
        }
        ranges
    }

    /// How many bytes at the end of a text are the beginning of a value, or the whole of it; the most that there are.
    pub(super) fn begun(&self, text: &[u8]) -> usize {
        let node = text.iter().fold(ROOT, |node, byte| self.next(node, *byte));
        self.levels.partition_point(|first| *first <= node) - 1
    }

    fn next(&self, mut node: usize, byte: u8) -> usize {
        loop {
            if let Some(child) = self.child(node, byte) {
                return child;
            }
            if node == ROOT {
                return ROOT;
            }
            node = self.nodes[node].fallback as usize;
        }
    }

    fn child(&self, node: usize, byte: u8) -> Option<usize> {
        let first = self.nodes[node].first_child as usize;
        let end = self.nodes[node + 1].first_child as usize;
        let at = self.labels[first..end].binary_search(&byte).ok()?;
        Some(first + at)
    }

    /// Adds a child. Whatever is shorter than what leads to it is there already, with all of its children.
    fn add(&mut self, parent: usize, byte: u8, ends: Option<usize>) {
        let fallback = match parent {
            ROOT => ROOT,
            parent => self.next(self.nodes[parent].fallback as usize, byte),
        };
        let longest = ends.map_or(self.nodes[fallback].longest, number);
        self.nodes.push(Node { first_child: 0, fallback: number(fallback), longest });
        self.labels.push(byte);
    }
}

/// Adds a range that ends at or behind all that there are, and joins with it those that it overlaps.
pub(super) fn cover(ranges: &mut Vec<Range<usize>>, mut range: Range<usize>) {
    while let Some(last) = ranges.pop_if(|last| last.end > range.start) {
        range.start = range.start.min(last.start);
    }
    ranges.push(range);
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("what is confidential has a megabyte at most")
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::limits::CONFIDENTIAL_BYTES_MAX;

    fn finder(values: &[String]) -> Finder {
        Finder::new(values.iter().map(String::as_bytes))
    }

    /// Each place looked at for each value.
    fn occurrences(values: &[String], text: &str) -> Vec<Range<usize>> {
        let starting = |at: usize| values.iter().filter(move |value| text[at..].starts_with(value.as_str()));
        (0..text.len()).flat_map(|at| starting(at).map(move |value| at..at + value.len())).collect()
    }

    /// Values of few letters, and a text of parts of them, often with something else between.
    fn values_in_a_text() -> impl Strategy<Value = (Vec<String>, String)> {
        let parts = vec((any::<Index>(), 0..8_usize, any::<bool>()), 0..12);
        (vec("[ab]{1,6}", 1..6), parts).prop_map(|(values, parts)| {
            let part = |(index, bytes, is_apart): (Index, usize, bool)| {
                let value = index.get(&values);
                format!("{}{}", &value[..bytes.min(value.len())], if is_apart { "x" } else { "" })
            };
            let text: String = parts.into_iter().map(part).collect();
            (values, text)
        })
    }

    proptest! {
        #[test]
        fn what_is_found_is_every_occurrence_of_every_value((values, text) in values_in_a_text()) {
            let mut expected = Vec::<Range<usize>>::new();
            for found in occurrences(&values, &text) {
                match expected.last_mut() {
                    Some(last) if found.start < last.end => last.end = last.end.max(found.end),
                    _ => expected.push(found),
                }
            }
            prop_assert_eq!(finder(&values).ranges(text.as_bytes()), expected);
        }

        #[test]
        fn the_longest_beginning_of_a_value_at_the_end_is_known((values, text) in values_in_a_text()) {
            let begun = |value: &String| (0..=value.len()).rev().find(|bytes| text.ends_with(&value[..*bytes]));
            prop_assert_eq!(Some(finder(&values).begun(text.as_bytes())), values.iter().filter_map(begun).max());
        }
    }

    #[test]
    fn where_there_is_no_value_nothing_is_found() {
        for values in [vec![], vec![String::new()]] {
            let finder = finder(&values);
            assert_eq!((finder.ranges(b"text"), finder.begun(b"text")), (vec![], 0));
        }
    }

    #[test]
    fn attack_values_within_values_take_no_more_than_a_state_for_each_byte() {
        let mut values: Vec<String> = (6..900).map(|bytes| "a".repeat(bytes)).collect();
        values.extend((0..16).map(|number| format!("{}{}", "b".repeat(number), "a".repeat(32 << 10))));
        let bytes: usize = values.iter().map(String::len).sum();
        assert!(bytes < CONFIDENTIAL_BYTES_MAX);
        let finder = finder(&values);
        assert!(finder.nodes.len() <= bytes + 2, "{}", finder.nodes.len());
        let text = "a".repeat(1 << 20);
        let found = finder.ranges(text.as_bytes());
        assert_eq!((found.len(), found.first()), (1, Some(&(0..text.len()))));
    }
}
