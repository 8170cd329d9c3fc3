//! What an execution was told in confidence: its record and whatever else is kept of it must not say it.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

/// What stands in the place of a secret.
const REDACTED: &str = "[secret]";
/// A shorter value would be found in texts that have nothing to do with it.
const BYTES_MIN: usize = 6;

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

    /// The text without what is secret.
    pub fn redacted<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for value in self.values().iter() {
            if text.contains(value.as_str()) {
                text = text.replace(value.as_str(), REDACTED).into();
            }
        }
        text
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
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c => escaped.push(c),
        }
    }
    escaped
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
}
