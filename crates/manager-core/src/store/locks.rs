//! Locks of things that need not exist.

use sqlx::postgres::PgConnection;

/// Takes these locks, in this order, until the transaction ends.
pub(crate) async fn take(conn: &mut PgConnection, names: &[i64]) -> sqlx::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    sqlx::query("select pg_advisory_xact_lock(name) from unnest($1::bigint[]) as name")
        .bind(names)
        .execute(conn)
        .await?;
    Ok(())
}
