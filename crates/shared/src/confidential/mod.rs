//! What an execution was told in confidence: its record and whatever else is kept of it must not say it.

mod finder;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memchr::memmem;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use self::finder::{Finder, cover};
use crate::call::{CallCode, CallError};
use crate::json_scan;
use crate::limits::{CONFIDENTIAL_BYTES_MAX, ERROR_MESSAGE_BYTES_MAX};

/// What stands in the place of a secret.
const REDACTED: &str = "[secret]";
/// A shorter value would be found in texts that have nothing to do with it.
const BYTES_MIN: usize = 6;
/// What a value takes beside its own bytes, so that many short ones are not for nothing: there are 2,048 at most.
const VALUE_OVERHEAD_BYTES: usize = 512;
/// So many values are looked for one by one first: most texts say none of them, and that is known faster.
const FEW: usize = 4;
/// What the guest puts at the end of a message that it cuts.
const CUT: char = '…';
/// Bytes that a message has at least which was cut to what is kept of one: no character was cut in two.
const CUT_BYTES_MIN: usize = ERROR_MESSAGE_BYTES_MAX - 3;

/// Secret values that an execution has used, and those that it calls and waits for:
/// [`CONFIDENTIAL_BYTES_MAX`] at most.
#[derive(Default)]
pub struct Confidential(Mutex<Told>);

#[derive(Default)]
struct Told {
    values: Vec<Zeroizing<String>>,
    bytes: usize,
    /// Finds these values; made when a text is searched, once until there is another value.
    finder: Option<Arc<Finder>>,
}

impl Confidential {
    /// From now on this is not said. When it does not fit, nobody may be told it either.
    pub fn add(&self, value: &str) -> Result<(), CallError> {
        let mut told = self.told();
        if value.len() < BYTES_MIN || told.values.iter().any(|known| known.as_str() == value) {
            return Ok(());
        }
        let room = CONFIDENTIAL_BYTES_MAX - told.bytes;
        // Looked at before it is escaped, which can make it six times as long.
        if cost(value) > room {
            return Err(no_room());
        }
        let escaped = Some(Zeroizing::new(escaped(value))).filter(|escaped| escaped.as_str() != value);
        let bytes = cost(value) + escaped.as_ref().map_or(0, |escaped| cost(escaped));
        if bytes > room {
            return Err(no_room());
        }
        told.bytes += bytes;
        told.keep(Zeroizing::new(value.to_owned()));
        if let Some(escaped) = escaped {
            told.keep(escaped);
        }
        Ok(())
    }

    /// The text without what is secret, nor what a cut has left of it. Values that overlap are replaced as one.
    pub fn redacted<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let kept = kept_of_cut(text);
        let Some(finder) = self.finder(text.as_bytes(), kept.is_some()) else { return text.into() };
        let mut secret = finder.ranges(text.as_bytes());
        if let Some(kept) = kept {
            let begun = finder.begun(kept.as_bytes());
            if begun >= BYTES_MIN {
                cover(&mut secret, kept.len() - begun..text.len());
            }
        }
        if secret.is_empty() {
            return text.into();
        }
        let redacted = without(text.as_bytes(), &secret);
        String::from_utf8(redacted).expect("texts begin and end where characters do").into()
    }

    /// The same for bytes that need not be text.
    pub fn redacted_bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let secret = self.finder(bytes, false).map(|finder| finder.ranges(bytes)).unwrap_or_default();
        if secret.is_empty() { bytes.into() } else { without(bytes, &secret).into() }
    }

    /// The same for a JSON value, in each of its texts, names and numbers, however they would be escaped. Nothing when
    /// a secret is more than one of them and the rest is no JSON without it.
    pub fn redacted_json(&self, mut value: Value) -> Option<Value> {
        if self.is_empty() {
            return Some(value);
        }
        self.redact(&mut value);
        match self.redacted(&value.to_string()) {
            Cow::Borrowed(_) => Some(value),
            Cow::Owned(redacted) => serde_json::from_str(&redacted).ok(),
        }
    }

    /// The same for what may be the text of a JSON value. What is left need not be one. What is nested too deep to be
    /// looked into is a text like any other.
    pub fn redacted_json_text<'a>(&self, json: &'a str) -> Cow<'a, str> {
        if self.is_empty() {
            return json.into();
        }
        let is_json = json_scan::check(json).is_ok();
        let mut value: Value = is_json.then(|| serde_json::from_str(json).ok()).flatten().unwrap_or_default();
        if self.redact(&mut value) {
            return self.redacted(&value.to_string()).into_owned().into();
        }
        self.redacted(json)
    }

    /// Takes secrets out of all texts, names and numbers; whether there were any. Of members that have the same name
    /// then, one is left.
    fn redact(&self, value: &mut Value) -> bool {
        match value {
            Value::Null | Value::Bool(_) => false,
            Value::Number(number) => {
                let is_secret = matches!(self.redacted(&number.to_string()), Cow::Owned(_));
                if is_secret {
                    *value = REDACTED.into();
                }
                is_secret
            }
            Value::String(text) => {
                let Cow::Owned(redacted) = self.redacted(text) else { return false };
                *text = redacted;
                true
            }
            Value::Array(items) => self.redact_each(items.iter_mut()),
            Value::Object(members) => self.redact_members(members),
        }
    }

    /// All of them, whether there was one before or not.
    fn redact_each<'a>(&self, values: impl Iterator<Item = &'a mut Value>) -> bool {
        values.filter_map(|value| self.redact(value).then_some(())).count() > 0
    }

    fn redact_members(&self, members: &mut Map<String, Value>) -> bool {
        let any = self.redact_each(members.values_mut());
        let renamed = |name: &String| match self.redacted(name) {
            Cow::Owned(redacted) => Some((name.clone(), redacted)),
            Cow::Borrowed(_) => None,
        };
        let names: Vec<_> = members.keys().filter_map(renamed).collect();
        let is_renamed = !names.is_empty();
        for (name, redacted) in names {
            if let Some(member) = members.remove(&name) {
                members.insert(redacted, member);
            }
        }
        any || is_renamed
    }

    fn is_empty(&self) -> bool {
        self.told().values.is_empty()
    }

    /// What finds the values in a text; nothing when it surely has none of them, nor of one the beginning at its end.
    fn finder(&self, text: &[u8], is_cut: bool) -> Option<Arc<Finder>> {
        let mut told = self.told();
        let Told { values, finder, .. } = &mut *told;
        let is_in = |value: &Zeroizing<String>| memmem::find(text, value.as_bytes()).is_some();
        let may_be_cut = is_cut && !values.is_empty();
        if values.len() <= FEW && !may_be_cut && !values.iter().any(is_in) {
            return None;
        }
        let made = || Arc::new(Finder::new(values.iter().map(|value| value.as_bytes())));
        Some(Arc::clone(finder.get_or_insert_with(made)))
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn keep(&mut self, value: Zeroizing<String>) {
        self.values.push(value);
        self.finder = None;
    }
}

impl std::fmt::Debug for Confidential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Confidential({})", self.told().values.len())
    }
}

const fn cost(value: &str) -> usize {
    value.len() + VALUE_OVERHEAD_BYTES
}

fn no_room() -> CallError {
    let message = format!(
        "an execution and those that it calls use {CONFIDENTIAL_BYTES_MAX} bytes of secrets, passwords and \
         tokens at most; do the rest in another one (`invoke_async`)"
    );
    CallError::new(CallCode::BudgetExhausted, message)
}

/// What is left of a text that may have been cut before anybody looked for secrets, without the mark of that.
fn kept_of_cut(text: &str) -> Option<&str> {
    let may_be_cut = (CUT_BYTES_MIN..=ERROR_MESSAGE_BYTES_MAX).contains(&text.len());
    may_be_cut.then(|| text.strip_suffix(CUT).unwrap_or(text))
}

/// The bytes with a mark in the place of each range.
fn without(bytes: &[u8], secret: &[Range<usize>]) -> Vec<u8> {
    let mut without = Vec::with_capacity(bytes.len());
    let mut end = 0;
    for range in secret {
        without.extend_from_slice(&bytes[end..range.start]);
        without.extend_from_slice(REDACTED.as_bytes());
        end = range.end;
    }
    without.extend_from_slice(&bytes[end..]);
    without
}

/// A text as JSON has it between quotes.
fn escaped(text: &str) -> String {
    let quoted = Zeroizing::new(serde_json::to_string(text).expect("any text can be written as JSON"));
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.expect("JSON has a text between quotes").to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use serde_json::json;

    use super::*;
    use crate::limits::JSON_DEPTH_MAX;

    fn knowing(values: &[&str]) -> Confidential {
        let confidential = Confidential::default();
        values.iter().for_each(|value| confidential.add(value).unwrap());
        confidential
    }

    /// One value after the other, the longest first, each by a search of its own.
    fn naive(values: &[String], text: &str) -> String {
        let mut values: Vec<&String> = values.iter().collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        let redacted =
            values.iter().fold(text.to_owned(), |text, value| text.replace(value.as_str(), REDACTED));
        if !(CUT_BYTES_MIN..=ERROR_MESSAGE_BYTES_MAX).contains(&text.len()) {
            return redacted;
        }
        let kept = text.strip_suffix(CUT).unwrap_or(text);
        let ends = |value: &[u8]| kept.as_bytes().ends_with(value);
        let longest = |value: &&String| {
            let value = value.as_bytes();
            (BYTES_MIN..=value.len()).rev().find(|bytes| ends(&value[..*bytes]))
        };
        match values.iter().filter_map(longest).max() {
            Some(bytes) => {
                let start = &text[..kept.len() - bytes];
                values.iter().fold(start.to_owned(), |text, value| text.replace(value.as_str(), REDACTED))
                    + REDACTED
            }
            None => redacted,
        }
    }

    proptest! {
        /// No beginning of a value is within one or ends one: each begins with a letter that it has nowhere else.
        #[test]
        fn many_values_are_replaced_as_by_a_search_for_each(
            values in vec("A[a-c\"é]{5,9}", 1..12),
            parts in vec((any::<Index>(), 0..12_usize, "[xyz]{0,3}"), 0..20),
            is_cut in any::<bool>(),
        ) {
            let mut text = String::new();
            for (index, chars, between) in parts {
                text.extend(index.get(&values).chars().take(chars));
                text.push_str(&between);
            }
            if is_cut {
                let filler = ERROR_MESSAGE_BYTES_MAX - CUT.len_utf8() - text.len();
                text = format!("{}{text}{CUT}", "z".repeat(filler));
            }
            let confidential = knowing(&values.iter().map(String::as_str).collect::<Vec<_>>());
            let redacted = confidential.redacted(&text);
            prop_assert_eq!(&*redacted, naive(&values, &text));
            if !is_cut {
                let bytes = confidential.redacted_bytes(text.as_bytes());
                prop_assert_eq!(&*bytes, redacted.as_bytes());
            }
        }
    }

    #[test]
    fn attack_nothing_is_left_of_values_that_overlap() {
        let confidential = knowing(&["xabcdefg", "abcdefgh-long", "long-and-more", "aaaaaa"]);
        assert_eq!(confidential.redacted("< xabcdefgh-long-and-more >"), "< [secret] >");
        assert_eq!(confidential.redacted("<aaaaaaaaa>"), "<[secret]>");
        let start = "z".repeat(ERROR_MESSAGE_BYTES_MAX - 19);
        let text = format!("{start}abcdefgh-long-and-m");
        assert_eq!(confidential.redacted(&text), format!("{start}[secret]"));
    }

    #[test]
    fn what_is_added_after_a_search_is_found_by_the_next_one() {
        let confidential = knowing(&["first-secret"]);
        assert_eq!(confidential.redacted("first-secret second-secret"), "[secret] second-secret");
        confidential.add("second-secret").unwrap();
        assert_eq!(confidential.redacted("first-secret second-secret"), "[secret] [secret]");
    }

    #[test]
    fn attack_many_short_values_are_2048_at_most() {
        let confidential = Confidential::default();
        let taken = (0..).take_while(|number| confidential.add(&format!("{number:06}")).is_ok()).count();
        assert!((2_000..=2_048).contains(&taken), "{taken}");
        assert_eq!(confidential.redacted("a 000000 b 001999 c"), "a [secret] b [secret] c");
    }

    #[test]
    fn attack_a_secret_of_many_lines_is_not_said_by_json_within_json() {
        let secret = "-----BEGIN KEY-----\nabc\n-----END KEY-----";
        let confidential = knowing(&[secret]);
        let inner = json!({ "key": secret }).to_string();
        let value = json!({ "body": [inner], secret: 1 });
        let expected = json!({ "body": [r#"{"key":"[secret]"}"#], "[secret]": 1 });
        assert_eq!(confidential.redacted_json_text(&value.to_string()), expected.to_string());
        assert_eq!(confidential.redacted_json(value), Some(expected));
    }

    #[test]
    fn a_secret_that_is_a_number_or_more_than_one_value_is_not_said() {
        let confidential = knowing(&["12345678", r#"{"id":1,"key":"k"}"#]);
        assert_eq!(confidential.redacted_json(json!([12_345_678, 1])), Some(json!(["[secret]", 1])));
        let account = json!({ "a": { "id": 1, "key": "k" } });
        assert_eq!(confidential.redacted_json_text(&account.to_string()), r#"{"a":[secret]}"#);
        assert_eq!(confidential.redacted_json(account), None);
        assert_eq!(confidential.redacted_json_text("no JSON: 12345678"), "no JSON: [secret]");
        assert!(matches!(confidential.redacted_json_text(r#"{"b":1, "a":2}"#), Cow::Borrowed(_)));
    }

    /// Nothing that descends into values looks at them, whatever a worker sends.
    #[test]
    fn attack_values_nested_deeper_than_others_are_only_text() {
        let confidential = knowing(&["12345678"]);
        let nested = |depth: usize, inner: &str| format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth));
        for (depth, expected) in [(JSON_DEPTH_MAX, r#""[secret]""#), (JSON_DEPTH_MAX + 1, "[secret]")] {
            let seen = confidential.redacted_json_text(&nested(depth, "12345678")).into_owned();
            assert_eq!(seen, nested(depth, expected), "{depth}");
        }
    }

    #[test]
    fn what_was_told_in_confidence_is_in_no_text_and_in_no_json() {
        let confidential = Confidential::default();
        for value in ["hunter2-secret", "two\nlines", "short"] {
            confidential.add(value).unwrap();
        }
        assert_eq!(confidential.redacted("it is hunter2-secret!"), "it is [secret]!");
        assert_eq!(confidential.redacted(r#"{"a":"two\nlines"}"#), r#"{"a":"[secret]"}"#);
        assert_eq!(confidential.redacted("a short text"), "a short text");
        let bytes = confidential.redacted_bytes(b"\xff hunter2-secret hunter2-secret \xff");
        assert_eq!(&*bytes, b"\xff [secret] [secret] \xff");
        assert!(matches!(confidential.redacted_bytes(b"nothing"), Cow::Borrowed(_)));
        assert!(!format!("{confidential:?}").contains("hunter2"));
    }

    #[test]
    fn a_secret_within_another_leaves_nothing_of_the_longer_one() {
        for order in [["abcdefgh-long", "abcdefgh"], ["abcdefgh", "abcdefgh-long"]] {
            let confidential = Confidential::default();
            order.iter().for_each(|value| confidential.add(value).unwrap());
            assert_eq!(confidential.redacted("abcdefgh-long abcdefgh"), "[secret] [secret]");
        }
    }

    #[test]
    fn attack_values_without_end_take_a_bounded_memory_and_what_was_taken_is_not_said() {
        for value in ["\u{1}".repeat(1_000), "x".repeat(200)] {
            let confidential = Confidential::default();
            let numbered = |number: usize| format!("{number:06}{value}");
            let taken = (0..).find(|number| confidential.add(&numbered(*number)).is_err()).unwrap();
            let told = confidential.told();
            let kept: usize = told.values.iter().map(|value| value.capacity()).sum();
            assert!(kept <= CONFIDENTIAL_BYTES_MAX && told.bytes <= CONFIDENTIAL_BYTES_MAX, "{kept}");
            assert!(told.values.len() * VALUE_OVERHEAD_BYTES < CONFIDENTIAL_BYTES_MAX);
            drop(told);
            assert_eq!(confidential.add(&numbered(taken)).unwrap_err().code, CallCode::BudgetExhausted);
            for number in [0, taken - 1] {
                assert_eq!(confidential.add(&numbered(number)), Ok(()), "it is known");
                assert_eq!(confidential.redacted(&numbered(number)), REDACTED);
            }
        }
    }

    #[test]
    fn a_value_that_does_not_fit_as_json_has_it_takes_nothing() {
        let confidential = Confidential::default();
        for bytes in [CONFIDENTIAL_BYTES_MAX, CONFIDENTIAL_BYTES_MAX / 2] {
            assert!(confidential.add(&"\u{1}".repeat(bytes)).is_err(), "{bytes}");
        }
        let told = confidential.told();
        assert_eq!((told.bytes, told.values.len()), (0, 0));
    }

    #[test]
    fn every_way_in_which_json_says_a_text_is_known() {
        for secret in ["bell\u{7}-\u{8}-\u{c}", "a \"quote\"", "back\\slash\\", "tab\tand\u{1f}\u{7f}é"] {
            let confidential = Confidential::default();
            confidential.add(secret).unwrap();
            let json = serde_json::json!({ "a": secret }).to_string();
            assert_eq!(confidential.redacted(&json), r#"{"a":"[secret]"}"#, "{json}");
        }
    }

    #[test]
    fn attack_a_message_that_is_cut_within_a_secret_tells_nothing_of_it() {
        let secret = "hunter2-secret";
        let confidential = Confidential::default();
        confidential.add(secret).unwrap();
        confidential.add("amqp://me:hunter2-secret@queue").unwrap();
        for kept in BYTES_MIN..=secret.len() {
            let start = "x".repeat(ERROR_MESSAGE_BYTES_MAX - CUT.len_utf8() - kept);
            let text = format!("{start}{}{CUT}", &secret[..kept]);
            assert_eq!(confidential.redacted(&text), format!("{start}[secret]"), "{kept}");
        }
        let start = "x".repeat(ERROR_MESSAGE_BYTES_MAX - 28);
        let text = format!("{start}amqp://me:hunter2-secret@que");
        assert_eq!(confidential.redacted(&text), format!("{start}[secret]"), "a secret within another");
        assert_eq!(
            confidential.redacted("it begins with hunter2-"),
            "it begins with hunter2-",
            "nothing was cut"
        );
    }
}
