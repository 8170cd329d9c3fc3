//! Removes what events leave behind when it is too old, or too much for one app: dead letters, abandoned
//! executions, keys. The oldest goes first, in small batches.

use std::time::Duration;

use chrono::Utc;
use shared::id::AppId;

use crate::store::{self, Database};

/// A month, in which people look after what went wrong.
const DEAD_LETTERS: Duration = Duration::from_secs(30 * 24 * 3_600);
const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Rows of one statement: a lock on so few is short.
const BATCH: i64 = 1_000;
/// Dead letters of one statement: each may have megabytes aside, in rows of 2 KiB that go with it.
const LETTERS_BATCH: i64 = 100;
/// Between two batches, so that removing never takes the database from those who use it.
const PAUSE: Duration = Duration::from_millis(20);

/// How much of one app is kept of what events leave behind.
#[derive(Debug, Clone, Copy)]
pub struct EventRetention {
    pub dead_letters_per_app: u32,
    /// Of the events in an app's dead letters, and of their errors.
    pub dead_letter_bytes_per_app: u64,
    /// Executions for whose answers nobody waited.
    pub abandoned_per_app: u32,
}

/// Removes what is too old or too much; answers how many rows.
pub(crate) async fn sweep(database: &Database, retention: EventRetention) -> sqlx::Result<u64> {
    let mut removed = sweep_old(database).await?;
    let apps = store::apps::all(&mut *database.acquire().await?).await?;
    for app in apps {
        removed += sweep_letters(database, app.id, retention).await?;
        removed += sweep_abandoned(database, app.id, retention).await?;
    }
    Ok(removed)
}

async fn sweep_old(database: &Database) -> sqlx::Result<u64> {
    let now = Utc::now();
    let mut removed = 0;
    loop {
        let mut conn = database.acquire().await?;
        let letters =
            store::dead_letters::delete_before(&mut conn, now - DEAD_LETTERS, LETTERS_BATCH).await?;
        let abandoned = store::abandoned::delete_before(&mut conn, now - ABANDONED, BATCH).await?;
        let keys = store::outbox::forget_expired(&mut conn, BATCH).await?;
        // The pause is without the connection.
        drop(conn);
        removed += letters + abandoned + keys;
        let is_full = |rows: u64, batch: i64| rows >= batch.unsigned_abs();
        if !is_full(letters, LETTERS_BATCH) && !is_full(abandoned, BATCH) && !is_full(keys, BATCH) {
            return Ok(removed);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn sweep_letters(database: &Database, app: AppId, retention: EventRetention) -> sqlx::Result<u64> {
    let bytes = i64::try_from(retention.dead_letter_bytes_per_app).unwrap_or(i64::MAX);
    let mut conn = database.acquire().await?;
    let too_many =
        store::dead_letters::first_too_many(&mut conn, app, retention.dead_letters_per_app, bytes).await?;
    drop(conn);
    let Some(last) = too_many else { return Ok(0) };
    let mut removed = 0;
    loop {
        let mut conn = database.acquire().await?;
        let rows = store::dead_letters::delete_up_to(&mut conn, app, last, LETTERS_BATCH).await?;
        drop(conn);
        removed += rows;
        if rows < LETTERS_BATCH.unsigned_abs() {
            return Ok(removed);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn sweep_abandoned(database: &Database, app: AppId, retention: EventRetention) -> sqlx::Result<u64> {
    let mut conn = database.acquire().await?;
    let too_many = store::abandoned::nth_newest(&mut conn, app, retention.abandoned_per_app).await?;
    drop(conn);
    let Some(last) = too_many else { return Ok(0) };
    let mut removed = 0;
    loop {
        let mut conn = database.acquire().await?;
        let rows = store::abandoned::delete_up_to(&mut conn, app, last, BATCH).await?;
        drop(conn);
        removed += rows;
        if rows < BATCH.unsigned_abs() {
            return Ok(removed);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
