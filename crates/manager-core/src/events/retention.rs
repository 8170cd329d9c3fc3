//! Removes what events leave behind when it is old: dead letters, abandoned executions, keys.

use std::time::Duration;

use chrono::Utc;

use crate::store::{self, Database};

/// A month, in which people look after what went wrong.
const DEAD_LETTERS: Duration = Duration::from_secs(30 * 24 * 3_600);
const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Rows of one statement: a lock on so few is short.
const BATCH: i64 = 1_000;
/// Between two batches, so that removing never takes the database from those who use it.
const PAUSE: Duration = Duration::from_millis(20);

/// Removes what is too old; answers how many rows.
pub(crate) async fn sweep(database: &Database) -> sqlx::Result<u64> {
    let now = Utc::now();
    let mut removed = 0;
    loop {
        let mut conn = database.acquire().await?;
        let rows = [
            store::dead_letters::delete_before(&mut conn, now - DEAD_LETTERS, BATCH).await?,
            store::abandoned::delete_before(&mut conn, now - ABANDONED, BATCH).await?,
            store::outbox::forget_expired(&mut conn, BATCH).await?,
        ];
        drop(conn);
        removed += rows.iter().sum::<u64>();
        if rows.iter().all(|rows| *rows < BATCH.unsigned_abs()) {
            return Ok(removed);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
