//! Where a page of documents ends: the values by which its last document is sorted, and its id.
//!
//! The next page is what comes after that in the order, so documents that come and go meanwhile
//! make it neither skip nor repeat others.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use shared::call::{CallCode, CallError};
use uuid::Uuid;

use super::query::{Path, SortKey};

/// Longest cursor: the values of a few members.
const BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cursor {
    pub(crate) values: Vec<Value>,
    pub(crate) id: Uuid,
}

impl Cursor {
    /// The cursor behind this document.
    pub(super) fn behind(sort: &[SortKey], id: Uuid, data: &Value) -> Self {
        Self { values: sort.iter().map(|key| member(data, &key.path).clone()).collect(), id }
    }

    /// The cursor as text, unless it would be one that nobody takes back.
    pub(super) fn encode(&self, sort: &[SortKey]) -> Result<String, CallError> {
        let text = URL_SAFE_NO_PAD.encode(serde_json::json!([self.id, self.values]).to_string());
        if text.len() <= BYTES_MAX {
            return Ok(text);
        }
        let longest = sort.iter().zip(&self.values).max_by_key(|(_, value)| value.to_string().len());
        let member = longest.map_or_else(String::new, |(key, _)| key.path.0.join("."));
        let message = format!(
            "the member {member:?} of a document is too long to sort by: what comes after it has a cursor of {} \
             bytes, and the limit is {BYTES_MAX}",
            text.len()
        );
        Err(CallError::new(CallCode::TooLarge, message))
    }

    /// Reads a cursor of a query that sorts by so many members.
    pub(super) fn decode(text: &str, members: usize) -> Result<Self, CallError> {
        let read = || {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            let (id, values): (Uuid, Vec<Value>) = serde_json::from_slice(&bytes).ok()?;
            Some(Self { values, id })
        };
        let cursor = if text.len() > BYTES_MAX { None } else { read() };
        cursor
            .filter(|cursor| cursor.values.len() == members)
            .ok_or_else(|| CallError::invalid("the cursor is not one of this query"))
    }
}

/// A member of a document; null where it is missing.
fn member<'a>(data: &'a Value, path: &Path) -> &'a Value {
    let found = path.0.iter().try_fold(data, |value, name| match value {
        Value::Object(members) => members.get(name),
        // As PostgreSQL counts: from 0, or from the end.
        Value::Array(elements) => {
            let index: i64 = name.parse().ok()?;
            let from_end = i64::try_from(elements.len()).ok()?.checked_add(index)?;
            elements.get(usize::try_from(if index < 0 { from_end } else { index }).ok()?)
        }
        _ => None,
    });
    found.unwrap_or(&Value::Null)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn by(path: &str) -> SortKey {
        SortKey { path: Path::parse(path).unwrap(), is_descending: false }
    }

    proptest! {
        #[test]
        fn any_text_is_a_cursor_of_this_query_or_refused(text: String, bytes: Vec<u8>, members in 0..3_usize) {
            for text in [text, URL_SAFE_NO_PAD.encode(bytes)] {
                if let Ok(cursor) = Cursor::decode(&text, members) {
                    prop_assert_eq!(cursor.values.len(), members);
                }
            }
        }

        #[test]
        fn a_cursor_comes_back_whatever_the_values_are(id: u128, values: Vec<Option<(String, i64)>>) {
            let values: Vec<_> = values.into_iter().map(|value| json!(value)).collect();
            let sort = vec![by("a"); values.len()];
            let cursor = Cursor { values, id: Uuid::from_u128(id) };
            match cursor.encode(&sort) {
                Ok(text) => prop_assert_eq!(Cursor::decode(&text, cursor.values.len()), Ok(cursor)),
                Err(error) => prop_assert_eq!(error.code, CallCode::TooLarge),
            }
        }
    }

    #[test]
    fn a_cursor_comes_back_as_it_was_and_a_foreign_one_is_refused() {
        let sort = [by("a.1")];
        let cursor = Cursor::behind(&sort, Uuid::from_u128(7), &json!({ "a": [1, { "x": "é" }] }));
        assert_eq!(cursor.values, [json!({ "x": "é" })]);
        let text = cursor.encode(&sort).unwrap();
        assert_eq!(Cursor::decode(&text, 1), Ok(cursor));
        assert!(Cursor::decode(&text, 0).is_err());
        for foreign in ["", "%", "bnVsbA", &URL_SAFE_NO_PAD.encode("[1,2]")] {
            assert!(Cursor::decode(foreign, 1).is_err(), "{foreign}");
        }
        assert_eq!(member(&json!({ "a": [1, 2] }), &Path::parse("a.-1").unwrap()), &json!(2));
    }
    #[test]
    fn a_cursor_that_nobody_would_take_back_is_not_given_out() {
        let sort = [by("short"), by("a.title")];
        let of = |bytes: usize| {
            let data = json!({ "short": 1, "a": { "title": "x".repeat(bytes) } });
            Cursor::behind(&sort, Uuid::nil(), &data).encode(&sort)
        };
        let text = of(49_000).unwrap();
        assert!(Cursor::decode(&text, 2).is_ok());
        let error = of(50_000).unwrap_err();
        assert_eq!(error.code, CallCode::TooLarge);
        assert!(error.message.contains("\"a.title\"") && error.message.contains("65536"), "{error}");
    }
}
