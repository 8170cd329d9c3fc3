//! Keys of which each has a number that is one more than the one before, and those that come next if it goes on so.
//!
//! A row may have several keys for each number, [`PERIOD_MAX`] at most, as where a script reads two fields of each user.

use std::collections::{HashSet, VecDeque};

/// Keys with the same number.
const PERIOD_MAX: usize = 4;
/// Keys of the first guess. One that was right doubles the next, one that was not halves it.
const FIRST_GUESS: usize = 4;

/// What was asked for last, in which a row may be seen.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// Two periods of the longest, the newest at the end.
    last: VecDeque<Box<str>>,
    guess: Option<Guess>,
}

/// What was guessed last of the row that goes on.
#[derive(Debug)]
struct Guess {
    size: usize,
    /// The key after those. When it has to be read, all of them were right.
    then: Option<Box<str>>,
}

impl Numbers {
    pub(super) fn note(&mut self, key: &str) {
        if self.last.len() == 2 * PERIOD_MAX {
            self.last.pop_front();
        }
        self.last.push_back(key.into());
    }

    /// What will be asked for after the key that was noted last and has to be read: so many keys at most, each once
    /// and none of them that key.
    pub(super) fn ahead(&mut self, most: usize) -> Vec<Box<str>> {
        let (Some(key), Some(row)) = (self.last.back(), row(&self.last)) else {
            self.guess = None;
            return Vec::new();
        };
        let size = match &self.guess {
            None => FIRST_GUESS,
            Some(guess) if guess.then.as_ref() == Some(key) => guess.size * 2,
            Some(guess) => guess.size / 2,
        };
        let size = size.min(most);
        let mut seen = HashSet::from([key.clone()]);
        let mut next = (1..)
            .flat_map(|step| row.iter().map(move |last| last.plus(step)))
            .map_while(|key| key)
            .filter(|key| seen.insert(key.clone()));
        let ahead = next.by_ref().take(size).collect();
        self.guess = Some(Guess { size, then: next.next() });
        ahead
    }
}

/// The last period, if each key of it follows the one a period before.
fn row(last: &VecDeque<Box<str>>) -> Option<Vec<Numbered<'_>>> {
    // The longest first: fields that are numbers look like a row themselves.
    (1..=PERIOD_MAX).rev().find_map(|period| {
        let first = last.len().checked_sub(2 * period)?;
        (first..first + period).map(|at| Numbered::after(&last[at], &last[at + period])).collect()
    })
}

/// A key, taken apart at a number.
#[derive(Debug, Clone, Copy)]
struct Numbered<'a> {
    head: &'a str,
    number: u64,
    /// Of the number, with zeros before it.
    digits: usize,
    rest: &'a str,
}

impl<'a> Numbered<'a> {
    /// The key at the number by which alone it differs from another, if it is one more there.
    fn after(before: &str, key: &'a str) -> Option<Self> {
        let same = before.bytes().zip(key.bytes()).take_while(|(before, key)| before == key).count();
        // Digits right before the first difference belong to the number.
        let head = before.as_bytes()[..same].iter().rposition(|byte| !byte.is_ascii_digit());
        let head = head.map_or(0, |last| last + 1);
        let next = Numbered::at(before, head)?.plus(1)?;
        if *next == *key { Self::at(key, head) } else { None }
    }

    fn at(key: &'a str, head: usize) -> Option<Self> {
        let (head, tail) = key.split_at_checked(head)?;
        let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = tail.split_at(digits);
        Some(Self { head, number: number.parse().ok()?, digits, rest })
    }

    fn plus(&self, more: u64) -> Option<Box<str>> {
        let Self { head, number, digits, rest } = *self;
        let number = number.checked_add(more)?;
        Some(format!("{head}{number:0digits$}{rest}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is guessed after these, of which the last alone has to be read.
    fn ahead(keys: &[&str]) -> Vec<Box<str>> {
        let mut numbers = Numbers::default();
        keys.iter().for_each(|key| numbers.note(key));
        numbers.ahead(100)
    }

    #[test]
    fn a_number_that_went_up_by_one_goes_on() {
        for (before, key, next) in [
            ("item:7", "item:8", ["item:9", "item:10", "item:11", "item:12"]),
            ("7", "8", ["9", "10", "11", "12"]),
            ("page-007", "page-008", ["page-009", "page-010", "page-011", "page-012"]),
            ("page-097", "page-098", ["page-099", "page-100", "page-101", "page-102"]),
            ("page-998", "page-999", ["page-1000", "page-1001", "page-1002", "page-1003"]),
            ("k9", "k10", ["k11", "k12", "k13", "k14"]),
            ("k199", "k200", ["k201", "k202", "k203", "k204"]),
            ("user:7:name", "user:8:name", ["user:9:name", "user:10:name", "user:11:name", "user:12:name"]),
            ("1:1:1", "1:2:1", ["1:3:1", "1:4:1", "1:5:1", "1:6:1"]),
            ("1:1:1", "1:1:2", ["1:1:3", "1:1:4", "1:1:5", "1:1:6"]),
            ("é1ü", "é2ü", ["é3ü", "é4ü", "é5ü", "é6ü"]),
        ] {
            assert_eq!(ahead(&[before, key]), next.map(Box::<str>::from), "{before:?}, {key:?}");
        }
        let long = |number| format!("{number:0512}");
        assert_eq!(*ahead(&[&long(1), &long(2)])[0], *long(3));
    }

    #[test]
    fn any_other_keys_are_no_row() {
        for keys in [
            ["a", "b"],
            ["k7", "k7"],
            ["k8", "k7"],
            ["k7", "k9"],
            ["k7", "k08"],
            ["k07", "k8"],
            ["k007", "k08"],
            ["k1:x", "k2:y"],
            ["k1:1", "k2:2"],
            ["k1", "l2"],
            ["k", "k1"],
            ["k1", "k"],
            ["k1", "k12"],
            ["ü", "ý"],
            ["k٧", "k٨"],
            ["k18446744073709551615", "k18446744073709551616"],
            ["k99999999999999999999", "k100000000000000000000"],
        ] {
            assert!(ahead(&keys).is_empty(), "{keys:?}");
        }
        assert!(ahead(&[]).is_empty() && ahead(&["k1"]).is_empty());
        assert!(ahead(&["k1", "k2", "x"]).is_empty(), "the row has ended");
    }

    #[test]
    fn a_row_ends_with_the_greatest_number() {
        let mut numbers = Numbers::default();
        let key = |less| format!("k{}", u64::MAX - less);
        numbers.note(&key(3));
        numbers.note(&key(2));
        assert_eq!(numbers.ahead(100), [key(1), key(0)].map(Box::<str>::from));
        numbers.note(&key(1));
        numbers.note(&key(0));
        assert!(numbers.ahead(100).is_empty());
    }

    #[test]
    fn several_keys_of_each_number_are_a_row() {
        let next = ["a:3:x", "a:3:y", "a:4:x", "a:4:y"];
        assert_eq!(ahead(&["a:1:x", "a:1:y", "a:2:x", "a:2:y"]), next.map(Box::<str>::from));
        let next = ["a:3:2", "a:4:1", "a:4:2", "a:5:1"];
        assert_eq!(ahead(&["a:1:1", "a:1:2", "a:2:1", "a:2:2", "a:3:1"]), next.map(Box::<str>::from));
        let period = |number| ["w", "x", "y", "z"].map(|field| format!("{number}{field}"));
        let keys: Vec<String> = (1..=2).flat_map(period).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        assert_eq!(ahead(&keys), period(3).map(Box::<str>::from));
        assert!(ahead(&keys[..7]).is_empty(), "before the second period is over");
    }

    #[test]
    fn no_key_is_guessed_twice_and_none_that_is_read_anyway() {
        for keys in [["k1", "k1", "k2", "k2"], ["k1", "k5", "k2", "k6"], ["k1", "k2", "k2", "k3"]] {
            let mut numbers = Numbers::default();
            keys.iter().for_each(|key| numbers.note(key));
            numbers.guess = Some(Guess { size: 20, then: Some(keys[3].into()) });
            let ahead = numbers.ahead(100);
            let all: HashSet<&str> = ahead.iter().map(|key| &**key).chain([keys[3]]).collect();
            assert_eq!((ahead.len(), all.len()), (40, 41), "{keys:?}");
        }
    }
}
