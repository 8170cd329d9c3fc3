//! The task that writes what was used: waits for something, lets more gather, adds it to the days.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use shared::id::AppId;

use super::{Shared, Unsaved};
use crate::store::usage::Added;
use crate::store::{self, Database};

/// How long counts gather, and so about what a crash loses.
const GATHER: Duration = Duration::from_secs(2);
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(10);
/// How long a closing server waits for a database that is away.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn run(shared: Arc<Shared>, database: Database) {
    let mut writer = Writer { shared, database, closing_since: None };
    while writer.wait().await {
        if !writer.is_closing() {
            writer.nap(GATHER).await;
        }
        let unsaved = std::mem::take(&mut writer.shared.lock().unsaved);
        writer.write(unsaved).await;
    }
}

struct Writer {
    shared: Arc<Shared>,
    database: Database,
    closing_since: Option<Instant>,
}

impl Writer {
    /// False when the budgets are closed and all is written.
    async fn wait(&self) -> bool {
        loop {
            {
                let mut state = self.shared.lock();
                if !state.unsaved.is_empty() {
                    return true;
                }
                if state.is_closed {
                    return false;
                }
                state.is_writer_waiting = true;
            }
            self.shared.wake.notified().await;
        }
    }

    fn is_closing(&mut self) -> bool {
        if self.closing_since.is_none() && self.shared.lock().is_closed {
            self.closing_since = Some(Instant::now());
        }
        self.closing_since.is_some()
    }

    /// Waits, less when the server stops meanwhile.
    async fn nap(&self, longest: Duration) {
        let _ = tokio::time::timeout(longest, self.shared.hurry.notified()).await;
    }

    async fn write(&mut self, unsaved: Unsaved) {
        let used: Vec<_> =
            unsaved.used.into_iter().map(|((app, day), used)| Added { app, day, used }).collect();
        let mut delay = RETRY_FIRST;
        while let Err(error) = save(&self.database, &used, &unsaved.frozen).await {
            let is_late =
                self.is_closing() && self.closing_since.is_some_and(|since| since.elapsed() > CLOSE_PATIENCE);
            if is_late || !store::is_outage(&error) {
                tracing::error!(%error, apps = used.len(), "what apps used is not written");
                return;
            }
            tracing::warn!(%error, "what apps used waits for the database");
            self.nap(delay).await;
            delay = (delay * 2).min(RETRY_LONGEST);
        }
    }
}

/// All or nothing, so that trying again counts nothing twice. A commit whose answer was lost can.
async fn save(database: &Database, used: &[Added], frozen: &[(AppId, DateTime<Utc>)]) -> sqlx::Result<()> {
    let mut tx = database.begin_lazily().await?;
    store::usage::add(&mut tx, used).await?;
    if !frozen.is_empty() {
        store::budgets::freeze(&mut tx, frozen).await?;
    }
    tx.commit().await
}
