//! Words between nodes.

use sqlx::postgres::PgConnection;

/// Sends words to whoever listens on a channel, outside of any transaction: commits that tell something take turns.
pub(crate) async fn tell(conn: &mut PgConnection, channel: &str, words: &[String]) -> sqlx::Result<()> {
    sqlx::query("select pg_notify($1, word) from unnest($2::text[]) as w (word)")
        .bind(channel)
        .bind(words)
        .execute(conn)
        .await?;
    Ok(())
}
