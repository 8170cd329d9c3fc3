//! Reads columns into domain types. A value that is no valid one, such as a name with a space, is
//! an error that says which column holds it.

use std::error::Error;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use shared::host::HostPattern;
use shared::script::{BundleHash, ScriptKind};
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::Json;

pub(super) fn parsed<T>(row: &PgRow, column: &str) -> sqlx::Result<T>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|source: T::Err| malformed(column, source))
}

/// The hosts a route is for; empty text is any.
pub(super) fn host(row: &PgRow, column: &str) -> sqlx::Result<Option<HostPattern>> {
    let text: &str = row.try_get(column)?;
    if text.is_empty() {
        return Ok(None);
    }
    parsed(row, column).map(Some)
}

pub(super) fn count(row: &PgRow, column: &str) -> sqlx::Result<u32> {
    let number: i32 = row.try_get(column)?;
    u32::try_from(number).map_err(|source| malformed(column, source))
}

pub(super) fn hash(row: &PgRow, column: &str) -> sqlx::Result<BundleHash> {
    row.try_get(column).map(BundleHash)
}

pub(super) fn json<T: DeserializeOwned>(row: &PgRow, column: &str) -> sqlx::Result<T> {
    let Json(value) = row.try_get(column)?;
    Ok(value)
}

pub(super) fn kind(row: &PgRow, column: &str) -> sqlx::Result<ScriptKind> {
    let text: &str = row.try_get(column)?;
    match text {
        "endpoint" => Ok(ScriptKind::Endpoint),
        "module" => Ok(ScriptKind::Module),
        other => Err(malformed(column, format!("{other:?} is no kind of script"))),
    }
}

pub(super) fn malformed(column: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: source.into() }
}
