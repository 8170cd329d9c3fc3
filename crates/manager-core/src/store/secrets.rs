//! Sealed values of apps.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::id::AppId;
use shared::name::SecretName;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use super::app_keys::WrappedKey;

/// This table, as the vault knows it.
pub(crate) const TABLE: &str = "secrets";

/// What is told of a secret.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Secret {
    pub(crate) name: String,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for Secret {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            name: row.try_get("name")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

/// A secret as it is kept, and the key that it is sealed with. Both are of one statement: when the key is changed,
/// the old one is gone a moment after its last value.
pub(crate) struct SealedSecret {
    pub(crate) name: String,
    pub(crate) sealed: Vec<u8>,
    pub(crate) key: WrappedKey,
}

impl FromRow<'_, PgRow> for SealedSecret {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let key = WrappedKey::from_row(row)?;
        Ok(Self { name: row.try_get("name")?, sealed: row.try_get("sealed")?, key })
    }
}

/// Names behind `after`, in order.
pub(crate) async fn page(
    conn: &mut PgConnection,
    app: AppId,
    after: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<Secret>> {
    sqlx::query_as(
        "select name, created_at, updated_at
         from secrets
         where app_id = $1 and ($2::text is null or name collate \"C\" > $2)
         order by name collate \"C\"
         limit $3",
    )
    .bind(app)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// All names, in order.
pub(crate) async fn names(conn: &mut PgConnection, app: AppId) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar("select name from secrets where app_id = $1 order by name collate \"C\"")
        .bind(app)
        .fetch_all(conn)
        .await
}

pub(crate) async fn count(conn: &mut PgConnection, app: AppId) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from secrets where app_id = $1").bind(app).fetch_one(conn).await
}

pub(crate) async fn sealed_by_name(
    conn: &mut PgConnection,
    app: AppId,
    name: &str,
) -> sqlx::Result<Option<SealedSecret>> {
    sqlx::query_as(
        "select name, sealed, version, master_id, wrapped
         from secrets
         join app_keys on app_keys.app_id = secrets.app_id and version = key_version
         where secrets.app_id = $1 and name = $2",
    )
    .bind(app)
    .bind(name)
    .fetch_optional(conn)
    .await
}

/// Those of the names that are set.
pub(crate) async fn sealed_by_names(
    conn: &mut PgConnection,
    app: AppId,
    names: &[SecretName],
) -> sqlx::Result<Vec<SealedSecret>> {
    let names: Vec<&str> = names.iter().map(SecretName::as_str).collect();
    sqlx::query_as(
        "select name, sealed, version, master_id, wrapped
         from secrets
         join app_keys on app_keys.app_id = secrets.app_id and version = key_version
         where secrets.app_id = $1 and name = any($2)",
    )
    .bind(app)
    .bind(names)
    .fetch_all(conn)
    .await
}

/// Sets a secret; answers what is told of it, and whether it is new.
pub(crate) async fn put(
    conn: &mut PgConnection,
    app: AppId,
    name: &str,
    sealed: &[u8],
) -> sqlx::Result<(Secret, bool)> {
    let row = sqlx::query(
        "insert into secrets (app_id, name, sealed) values ($1, $2, $3)
         on conflict (app_id, name) do update set sealed = excluded.sealed, updated_at = now()
         returning name, created_at, updated_at, xmax = 0 as is_new",
    )
    .bind(app)
    .bind(name)
    .bind(sealed)
    .fetch_one(conn)
    .await?;
    Ok((Secret::from_row(&row)?, row.try_get("is_new")?))
}

/// Whether there was one.
pub(crate) async fn delete(conn: &mut PgConnection, app: AppId, name: &str) -> sqlx::Result<bool> {
    let done = sqlx::query("delete from secrets where app_id = $1 and name = $2")
        .bind(app)
        .bind(name)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Everything sealed of an app, locked.
pub(crate) async fn sealed(conn: &mut PgConnection, app: AppId) -> sqlx::Result<Vec<SealedSecret>> {
    sqlx::query_as(
        "select name, sealed, version, master_id, wrapped
         from secrets
         join app_keys on app_keys.app_id = secrets.app_id and version = key_version
         where secrets.app_id = $1
         order by name
         for update of secrets",
    )
    .bind(app)
    .fetch_all(conn)
    .await
}

/// The same value under another key.
pub(crate) async fn replace_sealed(
    conn: &mut PgConnection,
    app: AppId,
    name: &str,
    sealed: &[u8],
) -> sqlx::Result<()> {
    sqlx::query("update secrets set sealed = $3 where app_id = $1 and name = $2")
        .bind(app)
        .bind(name)
        .bind(sealed)
        .execute(conn)
        .await?;
    Ok(())
}
