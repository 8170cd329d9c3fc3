//! What an execution was told in confidence: its record and whatever else is kept of it must not say it.

use std::borrow::Cow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use crate::call::{CallCode, CallError};
use crate::limits::{CONFIDENTIAL_BYTES_MAX, ERROR_MESSAGE_BYTES_MAX};

/// What stands in the place of a secret.
const REDACTED: &str = "[secret]";
/// A shorter value would be found in texts that have nothing to do with it.
const BYTES_MIN: usize = 6;
/// What a value takes beside its own bytes, so that many short ones are not for nothing.
const VALUE_OVERHEAD_BYTES: usize = 64;
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
    /// The longest first: another may be a part of it.
    values: Vec<Zeroizing<String>>,
    bytes: usize,
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

    /// The text without what is secret, nor what a cut has left of it.
    pub fn redacted<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let values = &self.told().values;
        match begun(values, text) {
            Some(start) => (without(values, &text[..start]).into_owned() + REDACTED).into(),
            None => without(values, text),
        }
    }

    /// The same for bytes that need not be text.
    pub fn redacted_bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let mut bytes = Cow::Borrowed(bytes);
        for value in &self.told().values {
            if let Some(without) = replaced(&bytes, value.as_bytes()) {
                bytes = without.into();
            }
        }
        bytes
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn keep(&mut self, value: Zeroizing<String>) {
        let at = self.values.partition_point(|known| known.len() >= value.len());
        self.values.insert(at, value);
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

fn without<'a>(values: &[Zeroizing<String>], text: &'a str) -> Cow<'a, str> {
    let mut text = Cow::Borrowed(text);
    for value in values {
        if text.contains(value.as_str()) {
            text = text.replace(value.as_str(), REDACTED).into();
        }
    }
    text
}

/// Where a secret begins that goes on to the end of a text, which may have been cut there before anybody looked
/// for it.
fn begun(values: &[Zeroizing<String>], text: &str) -> Option<usize> {
    if !(CUT_BYTES_MIN..=ERROR_MESSAGE_BYTES_MAX).contains(&text.len()) {
        return None;
    }
    let kept = text.strip_suffix(CUT).unwrap_or(text).as_bytes();
    let longest = |value: &Zeroizing<String>| {
        let value = value.as_bytes();
        (BYTES_MIN..=value.len()).rev().find(|bytes| kept.ends_with(&value[..*bytes]))
    };
    values.iter().filter_map(longest).max().map(|bytes| kept.len() - bytes)
}

/// Without the value, if it is there.
fn replaced(bytes: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let mut found = memchr::memmem::find_iter(bytes, value).peekable();
    found.peek()?;
    let mut without = Vec::with_capacity(bytes.len());
    let mut end = 0;
    for at in found {
        without.extend_from_slice(&bytes[end..at]);
        without.extend_from_slice(REDACTED.as_bytes());
        end = at + value.len();
    }
    without.extend_from_slice(&bytes[end..]);
    Some(without)
}

/// A text as JSON has it between quotes.
fn escaped(text: &str) -> String {
    let quoted = Zeroizing::new(serde_json::to_string(text).expect("any text can be written as JSON"));
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.expect("JSON has a text between quotes").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
