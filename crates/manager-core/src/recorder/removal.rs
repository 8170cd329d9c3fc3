//! Removes apps that nobody finds any more: a few rows at a time, table by table, and the app itself last, when there is
//! next to nothing left that goes with it. In one statement it would keep everybody waiting who writes down something
//! about the app, and with them those who write down something about others.
//!
//! What a process leaves undone, the next one does.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::id::AppId;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::store::apps::removal;
use crate::store::{self, Database};

/// Rows of one statement. Some have megabytes.
const BATCH: i64 = 200;
/// Between two batches, so that removing never takes the database from those who use it.
const PAUSE: Duration = Duration::from_millis(20);
/// When to go on after the database was away, or somebody held rows of the app.
const RETRY: Duration = Duration::from_secs(1);

/// The removals that are under way.
#[derive(Debug)]
pub(super) struct Removals {
    database: Database,
    tasks: Mutex<JoinSet<()>>,
}

impl Removals {
    /// Goes on with what an earlier process has begun.
    pub(super) fn start(database: Database) -> Self {
        let removals = Self { database, tasks: Mutex::default() };
        removals.take_up();
        removals
    }

    /// Goes on with whatever somebody began and left.
    pub(super) fn take_up(&self) {
        self.spawn(take_up(self.database.clone()));
    }

    /// Begins with an app that is hidden.
    pub(super) fn begin(&self, app: AppId) -> watch::Receiver<()> {
        let (done, removing) = watch::channel(());
        let database = self.database.clone();
        self.spawn(async move {
            remove(&database, app).await;
            drop(done);
        });
        removing
    }

    pub(super) fn end(&self) {
        self.tasks().abort_all();
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn take_up(database: Database) {
    loop {
        match begun(&database).await {
            Ok(apps) => {
                for app in apps {
                    remove(&database, app).await;
                }
                return;
            }
            Err(sqlx::Error::PoolClosed) => return,
            Err(error) => {
                tracing::warn!(%error, "apps that are to be removed could not be looked for; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn begun(database: &Database) -> sqlx::Result<Vec<AppId>> {
    removal::begun(&mut *database.acquire().await?).await
}

/// Removes an app, however long the database is away.
async fn remove(database: &Database, app: AppId) {
    loop {
        match remove_once(database, app).await {
            Ok(()) => {
                tracing::info!(app.id = %app, "an app was removed with all that was of it");
                return;
            }
            Err(sqlx::Error::PoolClosed) => return,
            Err(error) if store::waited_too_long(&error) => {
                tracing::debug!(app.id = %app, "somebody holds rows of an app that is to be removed");
            }
            Err(error) => {
                tracing::warn!(app.id = %app, %error, "an app could not be removed; trying again");
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn remove_once(database: &Database, app: AppId) -> sqlx::Result<()> {
    for statement in removal::SOME {
        loop {
            let mut conn = database.acquire().await?;
            let rows = removal::some(&mut conn, statement, app, BATCH).await?;
            // The pause is without the connection.
            drop(conn);
            if rows < BATCH.unsigned_abs() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    let mut tx = database.begin().await?;
    removal::rest(&mut tx, app).await?;
    tx.commit().await
}
