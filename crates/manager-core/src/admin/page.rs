//! Cursor pages: `limit` and `cursor` in, `items` and `next_cursor` out. A cursor is the last
//! item's place in the order, so rows that come or go never make a page skip or repeat others.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem::ApiError;

const LIMIT_DEFAULT: u32 = 50;
const LIMIT_MAX: u32 = 200;

/// The query of a list that has no filters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PageParams {
    /// Most items of the page.
    #[schemars(range(min = 1, max = LIMIT_MAX))]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

impl PageParams {
    pub(super) fn page<K: FromStr>(self) -> Result<Page<K>, ApiError> {
        Page::new(self.limit, self.cursor.as_deref())
    }
}

/// Which part of a list is asked for; `K` is what the list is ordered by.
#[derive(Debug)]
pub(super) struct Page<K> {
    limit: u32,
    pub(super) after: Option<K>,
}

/// A part of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PageOf{T}")]
pub(super) struct Items<T> {
    items: Vec<T>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

impl<K: FromStr> Page<K> {
    pub(super) fn new(limit: Option<u32>, cursor: Option<&str>) -> Result<Self, ApiError> {
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(ApiError::invalid(format!("limit is {limit}; it may be 1 to {LIMIT_MAX}")));
        }
        let after = cursor.map(decode).transpose()?;
        Ok(Self { limit, after })
    }

    pub(super) const fn limit(&self) -> u32 {
        self.limit
    }

    /// How many rows to read: one more than shown tells whether there is a next page.
    pub(super) fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    pub(super) fn items<T>(&self, mut rows: Vec<T>, key: impl Fn(&T) -> String) -> Items<T> {
        let limit = self.limit as usize;
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let last = if has_more { rows.last() } else { None };
        Items { next_cursor: last.map(|row| URL_SAFE_NO_PAD.encode(key(row))), items: rows }
    }
}

impl<T> Items<T> {
    /// A page that ends at this cursor of the list's own.
    pub(super) const fn until(items: Vec<T>, next_cursor: Option<String>) -> Self {
        Self { items, next_cursor }
    }

    /// A page that ends with the item of this key, or with the list.
    pub(super) fn up_to(items: Vec<T>, last: Option<&str>) -> Self {
        Self { items, next_cursor: last.map(|key| URL_SAFE_NO_PAD.encode(key)) }
    }

    pub(super) fn map<U>(self, view: impl Fn(T) -> U) -> Items<U> {
        Items { items: self.items.into_iter().map(view).collect(), next_cursor: self.next_cursor }
    }
}

fn decode<K: FromStr>(cursor: &str) -> Result<K, ApiError> {
    URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        // PostgreSQL's text has no U+0000.
        .filter(|key| !key.contains('\0'))
        .and_then(|key| key.parse().ok())
        .ok_or_else(|| ApiError::invalid("cursor is not one that this list gave out"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_cursor_is_a_place_or_refused(cursor: String, bytes: Vec<u8>) {
            let encoded = URL_SAFE_NO_PAD.encode(&bytes);
            for cursor in [cursor.as_str(), &encoded] {
                let _ = Page::<u32>::new(None, Some(cursor));
                if let Ok(Page { after: Some(key), .. }) = Page::<String>::new(None, Some(cursor)) {
                    prop_assert!(!key.contains('\0'), "PostgreSQL's text has no U+0000");
                }
            }
        }

        #[test]
        fn pages_of_any_size_show_every_item_once(count in 0..40_usize, limit in 1..12_u32) {
            let all: Vec<usize> = (0..count).collect();
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                let page = Page::<usize>::new(Some(limit), cursor.as_deref()).unwrap();
                let from = page.after.map_or(0, |last| last + 1);
                let rows = all.iter().copied().skip(from).take(usize::try_from(page.rows()).unwrap()).collect();
                let Items { items, next_cursor } = page.items(rows, usize::to_string);
                seen.extend(items);
                cursor = next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            prop_assert_eq!(seen, all);
        }
    }

    #[test]
    fn a_full_page_has_a_cursor_and_the_last_has_none() {
        let page = Page::<u32>::new(Some(2), None).unwrap();
        let items = page.items(vec![1, 2, 3], u32::to_string);
        assert_eq!(items.items, [1, 2]);
        let next = Page::<u32>::new(Some(2), items.next_cursor.as_deref()).unwrap();
        assert_eq!(next.after, Some(2));
        assert_eq!(next.items(vec![3], u32::to_string).next_cursor, None);
    }

    #[test]
    fn a_foreign_cursor_and_a_wrong_limit_are_refused() {
        assert!(Page::<u32>::new(None, Some("%%%")).is_err());
        assert!(Page::<u32>::new(None, Some("eA")).is_err());
        for limit in [0, 201] {
            assert!(Page::<u32>::new(Some(limit), None).is_err());
        }
    }
}
