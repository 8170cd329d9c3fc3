//! Connections for those who listen: few of the platform's, so that thousands who come at once keep nobody from
//! logging in.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::store::{Conn, Database};

/// Connections that all who listen on a node have together.
const PLACES: usize = 2;
/// How long one of them is waited for: as long as for any other connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// A cheap handle.
#[derive(Debug, Clone)]
pub(super) struct Reads {
    database: Database,
    places: Arc<Semaphore>,
}

impl Reads {
    pub(super) fn new(database: Database) -> Self {
        Self { database, places: Arc::new(Semaphore::new(PLACES)) }
    }

    pub(super) async fn acquire(&self) -> sqlx::Result<Reading> {
        let place = timeout(PATIENCE, Arc::clone(&self.places).acquire_owned()).await;
        let place = place.ok().and_then(Result::ok).ok_or(sqlx::Error::PoolTimedOut)?;
        Ok(Reading { conn: self.database.acquire().await?, _place: place })
    }
}

/// A connection, and the place that it takes.
#[derive(Debug)]
pub(crate) struct Reading {
    conn: Conn,
    _place: OwnedSemaphorePermit,
}

impl Deref for Reading {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.conn
    }
}

impl DerefMut for Reading {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.conn
    }
}
