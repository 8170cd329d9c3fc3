//! Removes apps that nobody finds any more: a few rows at a time, table by table, and the app itself last, when there is
//! next to nothing left that goes with it. In one statement it would keep everybody waiting who writes down something
//! about the app, and with them those who write down something about others.
//!
//! What a process leaves undone, the next one does, or one that is there already when it looks again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::id::AppId;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::store::apps::removal;
use crate::store::{self, Database};

/// Rows of one statement. Some have megabytes.
const BATCH: i64 = 200;
/// Between two batches, so that removing never takes the database from those who use it.
const PAUSE: Duration = Duration::from_millis(20);
/// When to go on after the database was away, or somebody held rows of an app that this process began with.
const RETRY: Duration = Duration::from_secs(1);

/// The removals that are under way.
#[derive(Debug)]
pub(super) struct Removals {
    database: Database,
    tasks: Mutex<Tasks>,
}

#[derive(Debug, Default)]
struct Tasks {
    all: JoinSet<()>,
    /// The one that goes on with what others left: a second would do the same.
    taking_up: Option<AbortHandle>,
}

impl Tasks {
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        while self.all.try_join_next().is_some() {}
        self.all.spawn(task)
    }
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
        let mut tasks = self.tasks();
        if tasks.taking_up.as_ref().is_none_or(AbortHandle::is_finished) {
            let taking_up = tasks.spawn(take_up(self.database.clone()));
            tasks.taking_up = Some(taking_up);
        }
    }

    /// Begins with an app, if it is hidden.
    pub(super) fn begin(&self, app: AppId) -> watch::Receiver<()> {
        let (done, removing) = watch::channel(());
        let database = self.database.clone();
        self.tasks().spawn(async move {
            remove(&database, app).await;
            drop(done);
        });
        removing
    }

    pub(super) fn end(&self) {
        self.tasks().all.abort_all();
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tries each app once: one that cannot be removed now keeps none of the others, and is found when somebody looks again.
async fn take_up(database: Database) {
    let apps = loop {
        match begun(&database).await {
            Ok(apps) => break apps,
            Err(sqlx::Error::PoolClosed) => return,
            Err(error) => {
                tracing::warn!(%error, "apps that are to be removed could not be looked for; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    for app in apps {
        try_remove(&database, app).await;
    }
}

async fn begun(database: &Database) -> sqlx::Result<Vec<AppId>> {
    removal::begun(&mut *database.acquire().await?).await
}

/// Removes an app that is hidden, however long the database is away.
async fn remove(database: &Database, app: AppId) {
    while !try_remove(database, app).await {
        tokio::time::sleep(RETRY).await;
    }
}

/// Removes an app that is hidden. False when that is to be tried again; the log says why.
async fn try_remove(database: &Database, app: AppId) -> bool {
    match remove_once(database, app).await {
        Ok(true) => {
            tracing::info!(app.id = %app, "an app was removed with all that was of it");
            true
        }
        Ok(false) | Err(sqlx::Error::PoolClosed) => true,
        Err(error) if store::waited_too_long(&error) => {
            tracing::debug!(app.id = %app, "somebody holds rows of an app that is to be removed");
            false
        }
        Err(error) => {
            tracing::warn!(app.id = %app, %error, "an app could not be removed; it is tried again");
            false
        }
    }
}

/// False when the app is not hidden, and so is somebody's, or is gone.
async fn remove_once(database: &Database, app: AppId) -> sqlx::Result<bool> {
    // Once is enough: whoever hides an app does not show it again.
    if !begun(database).await?.contains(&app) {
        return Ok(false);
    }
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
    tx.commit().await?;
    Ok(true)
}
