//! Values by key. One that has expired is not there, whether it has been removed yet or not.

use shared::host_call::kv::{Condition, Key, Set};
use shared::id::AppId;
use sqlx::postgres::PgConnection;

pub(crate) async fn get(conn: &mut PgConnection, app: AppId, key: &Key<'_>) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(
        "select value from kv
         where app_id = $1 and collection = $2 and key = $3
           and (expires_at is null or expires_at > statement_timestamp())",
    )
    .bind(app)
    .bind(key.collection)
    .bind(key.key)
    .fetch_optional(conn)
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
        Condition::Version(_) => {
            "update kv
             set value = $4, expires_at = statement_timestamp() + $5 * interval '1 millisecond',
                 version = greatest(version + 1, kv_version()), updated_at = statement_timestamp()
             where app_id = $1 and collection = $2 and key = $3 and version = $6
               and (expires_at is null or expires_at > statement_timestamp())
             returning version"
        }
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
