//! Parts of a transaction that can be taken back alone. There is one at a time.

use sqlx::postgres::PgConnection;

pub(crate) async fn set(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("savepoint part").execute(conn).await?;
    Ok(())
}

/// Keeps what was done since.
pub(crate) async fn keep(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("release savepoint part").execute(conn).await?;
    Ok(())
}

/// Takes back what was done since, also when it failed.
pub(crate) async fn undo(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("rollback to savepoint part; release savepoint part").execute(conn).await?;
    Ok(())
}
