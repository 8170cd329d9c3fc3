//! Removes execution records that are too old, or too many for one app: from time to time, in small
//! batches, and only when something was recorded since the last time. Apps whose removal somebody left undone are looked
//! for each time, whether or not anything was recorded.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::id::{AppId, ExecutionId};

use super::Shared;
use crate::events::{self, EventRetention};
use crate::store::{self, Database};

/// Rows of one statement: a lock on so few is short, and nobody waits behind it.
const BATCH: i64 = 1_000;
/// Between two batches, so that removing never takes the database from those who use it.
const PAUSE: Duration = Duration::from_millis(20);

/// How long and how many execution records are kept, and how much of what events leave behind.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    pub age: Duration,
    pub records_per_app: u32,
    pub events: EventRetention,
    /// How often to look.
    pub every: Duration,
}

pub(super) async fn run(shared: Arc<Shared>, database: Database, retention: Retention) {
    // What an earlier process left is looked at once.
    let mut seen = None;
    loop {
        tokio::time::sleep(retention.every).await;
        shared.removals.take_up();
        let written = shared.written.load(Ordering::Relaxed);
        if seen == Some(written) {
            continue;
        }
        let of_events = events::sweep_retention(&database, retention.events).await;
        match &of_events {
            Ok(0) => {}
            Ok(removed) => tracing::info!(rows.removed = removed, "what old events left was removed"),
            Err(error) => {
                tracing::warn!(%error, "what old events left could not be removed; trying again later");
            }
        }
        let records = sweep(&shared, &database, retention, seen.is_none()).await;
        match &records {
            Ok(0) => {}
            Ok(removed) => tracing::info!(executions.removed = removed, "old execution records were removed"),
            Err(error) => {
                tracing::warn!(%error, "old execution records could not be removed; trying again later");
            }
        }
        if of_events.is_ok() && records.is_ok() {
            seen = Some(written);
        }
    }
}

async fn sweep(
    shared: &Shared,
    database: &Database,
    retention: Retention,
    is_first: bool,
) -> sqlx::Result<u64> {
    let apps = store::apps::all(&mut *database.acquire().await?).await?;
    shared.logs.doubt(apps.iter().filter(|_| is_first).map(|app| app.id));
    let oldest = first_id_at(Utc::now() - retention.age);
    let mut removed = 0;
    for app in apps {
        let excess = {
            let mut conn = database.acquire().await?;
            store::executions::nth_newest(&mut conn, app.id, retention.records_per_app).await?
        };
        removed += remove(database, app.id, excess.map_or(oldest, |excess| excess.max(oldest))).await?;
    }
    Ok(removed)
}

async fn remove(database: &Database, app: AppId, last: ExecutionId) -> sqlx::Result<u64> {
    let mut removed = 0;
    loop {
        let mut conn = database.acquire().await?;
        let rows = store::executions::delete_up_to(&mut conn, app, last, BATCH).await?;
        // The pause is without the connection.
        drop(conn);
        removed += rows;
        if rows < BATCH.unsigned_abs() {
            return Ok(removed);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// An id before all that are made from this time on: version 7 begins with the milliseconds.
fn first_id_at(time: DateTime<Utc>) -> ExecutionId {
    let millis = u128::try_from(time.timestamp_millis()).unwrap_or_default();
    ExecutionId::from_uuid(uuid::Uuid::from_u128(millis << 80))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_on_the_side_of_the_boundary_on_which_their_time_is() {
        let id = ExecutionId::new();
        let now = Utc::now();
        assert!(first_id_at(now - Duration::from_secs(60)) < id);
        assert!(first_id_at(now + Duration::from_secs(60)) > id);
    }
}
