//! What an execution was told in confidence: its record and whatever else is kept of it must not say it.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

use crate::limits::ERROR_MESSAGE_BYTES_MAX;

/// What stands in the place of a secret.
const REDACTED: &str = "[secret]";
/// A shorter value would be found in texts that have nothing to do with it.
const BYTES_MIN: usize = 6;
/// What the guest puts at the end of a message that it cuts.
const CUT: char = '…';
/// Bytes that a message has at least which was cut to what is kept of one: no character was cut in two.
const CUT_BYTES_MIN: usize = ERROR_MESSAGE_BYTES_MAX - 3;

/// Secret values that the execution has used.
#[derive(Default)]
pub struct Confidential(Mutex<Vec<Zeroizing<String>>>);

impl Confidential {
    /// From now on this is not said.
    pub fn add(&self, value: &str) {
        let mut values = self.values();
        if value.len() >= BYTES_MIN && !values.iter().any(|known| known.as_str() == value) {
            values.push(Zeroizing::new(value.to_owned()));
            // As it stands in JSON, where that differs.
            let escaped = Zeroizing::new(escaped(value));
            if escaped.as_str() != value {
                values.push(escaped);
            }
            // The longest goes first: another may be a part of it.
            values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        }
    }

    /// The text without what is secret, nor what a cut has left of it.
    pub fn redacted<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let values = self.values();
        match begun(&values, text) {
            Some(start) => (without(&values, &text[..start]).into_owned() + REDACTED).into(),
            None => without(&values, text),
        }
    }

    /// The same for bytes that need not be text.
    pub fn redacted_bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let mut bytes = Cow::Borrowed(bytes);
        for value in self.values().iter() {
            if let Some(without) = replaced(&bytes, value.as_bytes()) {
                bytes = without.into();
            }
        }
        bytes
    }

    fn values(&self) -> std::sync::MutexGuard<'_, Vec<Zeroizing<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Confidential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Confidential({})", self.values().len())
    }
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
        confidential.add("hunter2-secret");
        confidential.add("two\nlines");
        confidential.add("short");
        assert_eq!(confidential.redacted("it is hunter2-secret!"), "it is [secret]!");
        assert_eq!(confidential.redacted(r#"{"a":"two\nlines"}"#), r#"{"a":"[secret]"}"#);
        assert_eq!(confidential.redacted("a short text"), "a short text");
        let bytes = confidential.redacted_bytes(b"\xff hunter2-secret hunter2-secret \xff");
        assert_eq!(&*bytes, b"\xff [secret] [secret] \xff");
        assert!(matches!(confidential.redacted_bytes(b"nothing"), Cow::Borrowed(_)));
        assert!(!format!("{confidential:?}").contains("hunter2"));
    }
    #[test]
    fn every_way_in_which_json_says_a_text_is_known() {
        for secret in ["bell\u{7}-\u{8}-\u{c}", "a \"quote\"", "back\\slash\\", "tab\tand\u{1f}\u{7f}é"] {
            let confidential = Confidential::default();
            confidential.add(secret);
            let json = serde_json::json!({ "a": secret }).to_string();
            assert_eq!(confidential.redacted(&json), r#"{"a":"[secret]"}"#, "{json}");
        }
    }

    #[test]
    fn attack_a_message_that_is_cut_within_a_secret_tells_nothing_of_it() {
        let secret = "hunter2-secret";
        let confidential = Confidential::default();
        confidential.add(secret);
        confidential.add("amqp://me:hunter2-secret@queue");
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
