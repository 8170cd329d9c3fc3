//! How much waits.

use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};

use crate::store::columns;

/// Messages, and the bytes of them and of their keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Load {
    pub(crate) fn of_one(message: &str, key: Option<&str>) -> Self {
        Self { messages: 1, bytes: (message.len() + key.map_or(0, str::len)) as u64 }
    }

    pub(crate) const fn plus(self, more: Self) -> Self {
        Self {
            messages: self.messages.saturating_add(more.messages),
            bytes: self.bytes.saturating_add(more.bytes),
        }
    }

    /// Never less than nothing: what left here may have been counted elsewhere.
    pub(crate) const fn minus(self, less: Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(less.messages),
            bytes: self.bytes.saturating_sub(less.bytes),
        }
    }
}

impl FromRow<'_, PgRow> for Load {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let sum = |column: &str| {
            let number: i64 = row.try_get(column)?;
            u64::try_from(number).map_err(|source| columns::malformed(column, source))
        };
        Ok(Self { messages: sum("messages")?, bytes: sum("bytes")? })
    }
}
