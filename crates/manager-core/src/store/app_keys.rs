//! Data keys of apps, as they are wrapped.

use shared::id::AppId;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

/// A data key under the master key.
#[derive(Debug, Clone)]
pub(crate) struct WrappedKey {
    pub(crate) version: i32,
    /// Which master key it is.
    pub(crate) master: [u8; 8],
    pub(crate) wrapped: Vec<u8>,
}

impl FromRow<'_, PgRow> for WrappedKey {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            version: row.try_get("version")?,
            master: row.try_get("master_id")?,
            wrapped: row.try_get("wrapped")?,
        })
    }
}

/// Held by who changes the master key, and shared by who wraps a data key with it. A number that no
/// other lock of this database has.
const MASTER_LOCK: i64 = 0x7069_636c_6f75_6401;

/// Keeps the master key from being changed until the transaction ends.
pub(crate) async fn keep_master(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_xact_lock_shared($1)").bind(MASTER_LOCK).execute(conn).await?;
    Ok(())
}

/// Waits for everybody who wraps a key, and keeps others from it.
pub(crate) async fn lock_master(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_xact_lock($1)").bind(MASTER_LOCK).execute(conn).await?;
    Ok(())
}

/// Keeps the app's keys from being changed until the transaction ends. Before [`keep_master`] where both are wanted.
pub(crate) async fn keep(conn: &mut PgConnection, app: AppId) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_xact_lock_shared(hashtextextended($1, 0))")
        .bind(lock_name(app))
        .execute(conn)
        .await?;
    Ok(())
}

/// Waits for everybody who seals with a key of the app, and keeps others from it. Those who come meanwhile come after:
/// where many seal without a pause, a lock of the rows themselves would never be got.
pub(crate) async fn lock(conn: &mut PgConnection, app: AppId) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(lock_name(app))
        .execute(conn)
        .await?;
    Ok(())
}

fn lock_name(app: AppId) -> String {
    format!("app_keys {app}")
}

/// Which master keys wrap what there is.
pub(crate) async fn masters(conn: &mut PgConnection) -> sqlx::Result<Vec<[u8; 8]>> {
    sqlx::query_scalar("select distinct master_id from app_keys").fetch_all(conn).await
}

/// The key that an app's values are sealed with now.
pub(crate) async fn newest(conn: &mut PgConnection, app: AppId) -> sqlx::Result<Option<WrappedKey>> {
    sqlx::query_as(
        "select version, master_id, wrapped
         from app_keys
         where app_id = $1
         order by version desc
         limit 1",
    )
    .bind(app)
    .fetch_optional(conn)
    .await
}

pub(crate) async fn version(
    conn: &mut PgConnection,
    app: AppId,
    version: i32,
) -> sqlx::Result<Option<WrappedKey>> {
    sqlx::query_as("select version, master_id, wrapped from app_keys where app_id = $1 and version = $2")
        .bind(app)
        .bind(version)
        .fetch_optional(conn)
        .await
}

/// An app's first key; does nothing when it has one, or when keys of any app are under another master key: this one
/// may be gone when a change of it, here or on another node, has ended.
pub(crate) async fn insert_first(conn: &mut PgConnection, app: AppId, key: &WrappedKey) -> sqlx::Result<()> {
    sqlx::query(
        "insert into app_keys (app_id, version, master_id, wrapped)
         select $1, $2, $3, $4
         where not exists (select 1 from app_keys where app_id = $1)
           and not exists (select 1 from app_key_masters where master_id <> $3)
         on conflict (app_id, version) do nothing",
    )
    .bind(app)
    .bind(key.version)
    .bind(key.master)
    .bind(&key.wrapped)
    .execute(conn)
    .await?;
    Ok(())
}

/// A further key.
pub(crate) async fn insert(conn: &mut PgConnection, app: AppId, key: &WrappedKey) -> sqlx::Result<()> {
    sqlx::query("insert into app_keys (app_id, version, master_id, wrapped) values ($1, $2, $3, $4)")
        .bind(app)
        .bind(key.version)
        .bind(key.master)
        .bind(&key.wrapped)
        .execute(conn)
        .await?;
    Ok(())
}

/// All keys of all apps, kept from being removed. Whoever seals with one is not in the way: the key stays the same.
pub(crate) async fn all(conn: &mut PgConnection) -> sqlx::Result<Vec<(AppId, WrappedKey)>> {
    let rows = sqlx::query(
        "select app_id, version, master_id, wrapped from app_keys order by app_id, version for no key update",
    )
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("app_id")?, WrappedKey::from_row(row)?))).collect()
}

/// The same key under another master key.
pub(crate) async fn replace(conn: &mut PgConnection, app: AppId, key: &WrappedKey) -> sqlx::Result<()> {
    sqlx::query("update app_keys set master_id = $3, wrapped = $4 where app_id = $1 and version = $2")
        .bind(app)
        .bind(key.version)
        .bind(key.master)
        .bind(&key.wrapped)
        .execute(conn)
        .await?;
    Ok(())
}

/// Removes the keys that came before; what is still sealed with one keeps it, and this fails.
pub(crate) async fn delete_before(conn: &mut PgConnection, app: AppId, version: i32) -> sqlx::Result<()> {
    sqlx::query("delete from app_keys where app_id = $1 and version < $2")
        .bind(app)
        .bind(version)
        .execute(conn)
        .await?;
    Ok(())
}
