//! Builds the indexes of documents that were declared, and drops those that are no longer, one after the
//! other and beside everything else. It sleeps until somebody declares or removes one.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::store::docs::indexes;
use crate::store::{self, Database};

/// When to look again while another process builds, or the database is away.
const RETRY: Duration = Duration::from_secs(5);

/// A handle on the one who builds.
#[derive(Debug, Clone)]
pub(crate) struct Indexer {
    changed: Arc<Notify>,
    task: AbortHandle,
}

impl Indexer {
    /// Begins with what the process before has left.
    pub(crate) fn start(database: Database) -> Self {
        let changed = Arc::new(Notify::new());
        let task = tokio::spawn(run(database, Arc::clone(&changed))).abort_handle();
        Self { changed, task }
    }

    /// Something was declared or removed.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    pub(crate) fn end(&self) {
        self.task.abort();
    }
}

async fn run(database: Database, changed: Arc<Notify>) {
    loop {
        match catch_up(&database).await {
            Ok(true) => changed.notified().await,
            Ok(false) => tokio::time::sleep(RETRY).await,
            Err(sqlx::Error::PoolClosed) => return,
            Err(error) => {
                tracing::warn!(%error, "indexes of documents could not be built; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Does all there is to do; false when somebody else is doing it.
async fn catch_up(database: &Database) -> sqlx::Result<bool> {
    let mut conn = database.acquire().await?;
    if !indexes::become_builder(&mut conn).await? {
        return Ok(false);
    }
    let done = work(&mut conn).await;
    indexes::leave_builder(&mut conn).await?;
    done.map(|()| true)
}

async fn work(conn: &mut PgConnection) -> sqlx::Result<()> {
    for id in indexes::undeclared(conn).await? {
        indexes::drop(conn, id).await?;
    }
    while let Some(id) = indexes::next_to_build(conn).await? {
        match indexes::build(conn, id).await {
            Ok(()) => indexes::settle(conn, id, None).await?,
            Err(error) if store::is_outage(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, index.id = %id, "an index of documents could not be built");
                let reason = error.as_database_error().map_or("", |error| error.message()).to_owned();
                indexes::drop(conn, id).await?;
                indexes::settle(conn, id, Some(&reason)).await?;
            }
        }
    }
    Ok(())
}
