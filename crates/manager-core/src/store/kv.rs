//! Values by key. One that has expired is not there, whether it has been removed yet or not.

use chrono::{DateTime, Utc};
use shared::host_call::kv::{Condition, Incr, Key, List, Set, Sum};
use shared::id::AppId;
use shared::limits::KV_KEY_BYTES_MAX;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;

/// A value with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(crate) struct EntryRow {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) version: i64,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) updated_at: DateTime<Utc>,
}

/// A page's rows, and how many the page would have if it were not cut short by its bytes.
pub(crate) struct Listed {
    pub(crate) rows: Vec<EntryRow>,
    pub(crate) found: usize,
}

macro_rules! is_there {
    () => {
        "(expires_at is null or expires_at > statement_timestamp())"
    };
}

macro_rules! at_key {
    () => {
        concat!("app_id = $1 and collection = $2 and key = $3 and ", is_there!())
    };
}

pub(crate) async fn get(conn: &mut PgConnection, app: AppId, key: &Key<'_>) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(concat!("select value from kv where ", at_key!()))
        .bind(app)
        .bind(key.collection)
        .bind(key.key)
        .fetch_optional(conn)
        .await
}

pub(crate) async fn entry(
    conn: &mut PgConnection,
    app: AppId,
    key: &Key<'_>,
) -> sqlx::Result<Option<EntryRow>> {
    sqlx::query_as(concat!("select key, value, version, expires_at, updated_at from kv where ", at_key!()))
        .bind(app)
        .bind(key.collection)
        .bind(key.key)
        .fetch_optional(conn)
        .await
}

pub(crate) async fn has(conn: &mut PgConnection, app: AppId, key: &Key<'_>) -> sqlx::Result<bool> {
    sqlx::query_scalar(concat!("select exists (select from kv where ", at_key!(), ")"))
        .bind(app)
        .bind(key.collection)
        .bind(key.key)
        .fetch_one(conn)
        .await
}

/// The value at a key, and those at some more keys of its collection, itself among them, as far as they are no longer
/// than `bytes_max`; nothing for one that is longer.
pub(crate) async fn get_with(
    conn: &mut PgConnection,
    app: AppId,
    Key { collection, key }: &Key<'_>,
    keys: &[&str],
    bytes_max: usize,
) -> sqlx::Result<Vec<(String, Option<String>)>> {
    sqlx::query_as(concat!(
        "select key, case when key = $4 or octet_length(value) <= $5 then value end
         from kv where app_id = $1 and collection = $2 and key = any($3) and ",
        is_there!(),
    ))
    .bind(app)
    .bind(*collection)
    .bind(keys)
    .bind(*key)
    .bind(i32::try_from(bytes_max).unwrap_or(i32::MAX))
    .fetch_all(conn)
    .await
}

/// The values at those of the keys that have one, until they are more than `bytes_max` together.
pub(crate) async fn get_many(
    conn: &mut PgConnection,
    app: AppId,
    collection: &str,
    keys: &[&str],
    bytes_max: usize,
) -> sqlx::Result<Vec<(String, String)>> {
    sqlx::query_as(concat!(
        "select key, value from (
             select key, value, sum(octet_length(value)) over (order by key) as bytes
             from kv
             where app_id = $1 and collection = $2 and key = any($3) and ",
        is_there!(),
        ") found
         where bytes - octet_length(value) <= $4"
    ))
    .bind(app)
    .bind(collection)
    .bind(keys)
    .bind(i64::try_from(bytes_max).unwrap_or(i64::MAX))
    .fetch_all(conn)
    .await
}

macro_rules! upsert {
    () => {
        "insert into kv as old (app_id, collection, key, value, version, expires_at)
         values ($1, $2, $3, $4, kv_version(), statement_timestamp() + $5 * interval '1 millisecond')
         on conflict (app_id, collection, key) do update
         set value = excluded.value, expires_at = excluded.expires_at,
             version = greatest(old.version + 1, excluded.version), updated_at = excluded.updated_at
         "
    };
}

/// Writes a value; answers its version, or nothing when the condition does not hold.
pub(crate) async fn set(conn: &mut PgConnection, app: AppId, set: &Set<'_>) -> sqlx::Result<Option<u64>> {
    let sql = match set.condition {
        Condition::None => concat!(upsert!(), "returning version"),
        Condition::Absent => {
            concat!(upsert!(), "where old.expires_at <= statement_timestamp() returning version")
        }
        Condition::Version(_) => concat!(
            "update kv
             set value = $4, expires_at = statement_timestamp() + $5 * interval '1 millisecond',
                 version = greatest(version + 1, kv_version()), updated_at = statement_timestamp()
             where ",
            at_key!(),
            " and version = $6 returning version"
        ),
    };
    let ttl_ms = (set.ttl_ms > 0).then(|| i64::try_from(set.ttl_ms).unwrap_or(i64::MAX));
    let mut query = sqlx::query_scalar::<_, i64>(sql)
        .bind(app)
        .bind(set.collection)
        .bind(set.key)
        .bind(set.value)
        .bind(ttl_ms);
    if let Condition::Version(version) = set.condition {
        query = query.bind(i64::try_from(version).unwrap_or(-1));
    }
    let version = query.fetch_optional(conn).await?;
    Ok(version.map(i64::cast_unsigned))
}

/// Removes a value; answers what it was.
pub(crate) async fn delete(
    conn: &mut PgConnection,
    app: AppId,
    key: &Key<'_>,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(concat!("delete from kv where ", at_key!(), " returning value"))
        .bind(app)
        .bind(key.collection)
        .bind(key.key)
        .fetch_optional(conn)
        .await
}

/// Adds to a whole number, beginning at 0. Any other value is refused as no number: by a violated
/// constraint, or as out of range.
pub(crate) async fn incr(conn: &mut PgConnection, app: AppId, incr: &Incr<'_>) -> sqlx::Result<Sum> {
    let (value, version): (i64, i64) = sqlx::query_as(
        "insert into kv as old (app_id, collection, key, value, version)
         values ($1, $2, $3, $4::bigint::text, kv_version())
         on conflict (app_id, collection, key) do update
         set value = case
                 when old.expires_at <= statement_timestamp() then excluded.value
                 when old.value ~ '^-?[0-9]{1,19}$' then (old.value::bigint + $4)::text
             end,
             expires_at = case when old.expires_at > statement_timestamp() then old.expires_at end,
             version = greatest(old.version + 1, excluded.version), updated_at = excluded.updated_at
         returning value::bigint, version",
    )
    .bind(app)
    .bind(incr.collection)
    .bind(incr.key)
    .bind(incr.by)
    .fetch_one(conn)
    .await?;
    Ok(Sum { value, version: version.cast_unsigned() })
}

/// Whether an addition failed because the value is no whole number, or would be too large for one.
pub(crate) fn is_no_number(error: &sqlx::Error) -> bool {
    const NOT_NULL: &str = "23502";
    const OUT_OF_RANGE: &str = "22003";
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| [NOT_NULL, OUT_OF_RANGE].contains(&&*code))
}

/// Entries in the order of their keys' bytes, until they are `bytes_max` together.
pub(crate) async fn list(
    conn: &mut PgConnection,
    app: AppId,
    list: &List<'_>,
    bytes_max: usize,
) -> sqlx::Result<Listed> {
    #[derive(FromRow)]
    struct Row {
        #[sqlx(flatten)]
        entry: EntryRow,
        found: i64,
    }
    let rows: Vec<Row> = sqlx::query_as(concat!(
        "select key, value, version, expires_at, updated_at, found from (
             select key, value, version, expires_at, updated_at, count(*) over () as found,
                    sum(octet_length(value)) over (order by key) as bytes
             from (
                 select key, value, version, expires_at, updated_at from kv
                 where app_id = $1 and collection = $2 and key >= $3 and key <> $4 and key < $5 and ",
        is_there!(),
        "        order by key
                 limit $6
             ) page
         ) page
         where bytes - octet_length(value) < $7
         order by key"
    ))
    .bind(app)
    .bind(list.collection)
    .bind(list.prefix.max(list.after))
    .bind(list.after)
    .bind(end_of(list.prefix))
    .bind(i64::from(list.limit) + 1)
    .bind(i64::try_from(bytes_max).unwrap_or(i64::MAX))
    .fetch_all(conn)
    .await?;
    let found = rows.first().map_or(0, |row| usize::try_from(row.found).unwrap_or(0));
    Ok(Listed { rows: rows.into_iter().map(|row| row.entry).collect(), found })
}

/// The first text, in the order of bytes, that is after all that begin with this.
fn end_of(prefix: &str) -> String {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        if let Some(next) = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32) {
            end.push(next);
            return end;
        }
    }
    // No key of the greatest length is as great.
    String::from(char::MAX).repeat(KV_KEY_BYTES_MAX / char::MAX.len_utf8() + 1)
}

/// Names of an app's collections after this one, without reading what is in them.
pub(crate) async fn collections(
    conn: &mut PgConnection,
    app: AppId,
    after: &str,
    limit: i64,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "with recursive names as (
             (select collection from kv where app_id = $1 and collection > $2
              order by collection limit 1)
             union all
             select (select collection from kv
                     where app_id = $1 and collection > names.collection order by collection limit 1)
             from names where names.collection is not null
         )
         select collection from names where collection is not null limit $3",
    )
    .bind(app)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// The version of a value, which nobody changes until the transaction ends.
pub(crate) async fn lock(conn: &mut PgConnection, app: AppId, key: &Key<'_>) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar(concat!("select version from kv where ", at_key!(), " for update"))
        .bind(app)
        .bind(key.collection)
        .bind(key.key)
        .fetch_optional(conn)
        .await
}

/// A value that nobody changes until the transaction ends.
pub(crate) async fn get_locked(
    conn: &mut PgConnection,
    app: AppId,
    key: &Key<'_>,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(concat!("select value from kv where ", at_key!(), " for update"))
        .bind(app)
        .bind(key.collection)
        .bind(key.key)
        .fetch_optional(conn)
        .await
}

/// Removes some of what has expired; answers how much.
pub(crate) async fn sweep(conn: &mut PgConnection, limit: i64) -> sqlx::Result<u64> {
    let swept = sqlx::query(
        "delete from kv where ctid = any(array(
             select ctid from kv where expires_at <= statement_timestamp()
             order by expires_at limit $1 for update skip locked))",
    )
    .bind(limit)
    .execute(conn)
    .await?;
    Ok(swept.rows_affected())
}

/// In how many milliseconds the next value expires; nothing when none does.
pub(crate) async fn next_expiry_ms(conn: &mut PgConnection) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar(
        "select (extract(epoch from min(expires_at) - statement_timestamp()) * 1000)::bigint
         from kv where expires_at is not null",
    )
    .fetch_one(conn)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_after_all_that_begin_with_it() {
        assert_eq!(end_of("ab"), "ac");
        assert_eq!(end_of("a\u{d7ff}"), "a\u{e000}");
        assert_eq!(end_of("a\u{10ffff}\u{10ffff}"), "b");
        for prefix in ["", "\u{10ffff}"] {
            assert!(end_of(prefix).as_str() > "\u{10ffff}".repeat(KV_KEY_BYTES_MAX / 4).as_str());
        }
    }
}
