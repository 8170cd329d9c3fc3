//! Where a page of documents ends: the values by which its last document is sorted, and its id.
//!
//! The next page is what comes after that in the order, so documents that come and go meanwhile
//! make it neither skip nor repeat others.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use shared::call::CallError;
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

    pub(super) fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::json!([self.id, self.values]).to_string())
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
            let cursor = Cursor { values, id: Uuid::from_u128(id) };
            let text = cursor.encode();
            prop_assert_eq!(Cursor::decode(&text, cursor.values.len()).is_ok(), text.len() <= BYTES_MAX);
        }
    }

    #[test]
    fn a_cursor_comes_back_as_it_was_and_a_foreign_one_is_refused() {
        let sort = [SortKey { path: Path::parse("a.1").unwrap(), is_descending: false }];
        let cursor = Cursor::behind(&sort, Uuid::from_u128(7), &json!({ "a": [1, { "x": "é" }] }));
        assert_eq!(cursor.values, [json!({ "x": "é" })]);
        assert_eq!(Cursor::decode(&cursor.encode(), 1), Ok(cursor.clone()));
        assert!(Cursor::decode(&cursor.encode(), 0).is_err());
        for foreign in ["", "%", "bnVsbA", &URL_SAFE_NO_PAD.encode("[1,2]")] {
            assert!(Cursor::decode(foreign, 1).is_err(), "{foreign}");
        }
        assert_eq!(member(&json!({ "a": [1, 2] }), &Path::parse("a.-1").unwrap()), &json!(2));
    }
}
