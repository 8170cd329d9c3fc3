//! Connections of the platform while somebody has them, and the places that they take.

use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Postgres, Transaction};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::asker::Whom;
use crate::places::Place;

/// The place of somebody who asks; what is the platform's own takes none.
pub(super) type AskersPlace = Option<Place<Whom, Option<Uuid>>>;

/// A connection for statements that stand alone.
#[derive(Debug)]
pub(crate) struct Conn {
    /// Taken when it is dropped.
    conn: Option<PoolConnection<Postgres>>,
    place: AskersPlace,
}

/// A transaction; dropped without commit it is rolled back.
#[derive(Debug)]
pub(crate) struct Tx {
    /// Taken when it ends.
    tx: Option<Transaction<'static, Postgres>>,
    place: AskersPlace,
}

impl Conn {
    pub(super) const fn new(conn: PoolConnection<Postgres>, place: AskersPlace) -> Self {
        Self { conn: Some(conn), place }
    }
}

impl Tx {
    pub(super) const fn new(tx: Transaction<'static, Postgres>, place: AskersPlace) -> Self {
        Self { tx: Some(tx), place }
    }

    pub(crate) async fn commit(mut self) -> sqlx::Result<()> {
        self.ended().commit().await
    }

    pub(crate) async fn rollback(mut self) -> sqlx::Result<()> {
        self.ended().rollback().await
    }

    fn ended(&mut self) -> Transaction<'static, Postgres> {
        self.tx.take().expect("it is taken when this ends, and not before")
    }
}

impl Deref for Conn {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.conn.as_ref().expect("it is taken when this is dropped, and not before")
    }
}

impl DerefMut for Conn {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.conn.as_mut().expect("it is taken when this is dropped, and not before")
    }
}

impl Deref for Tx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.tx.as_ref().expect("it is taken when this ends, and not before")
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.tx.as_mut().expect("it is taken when this ends, and not before")
    }
}

// A client that leaves may leave a statement that still waits for a lock. The pool has its connection back when that has
// ended, and not before that the place is free: else who comes and leaves again and again would have them all.

impl Drop for Conn {
    fn drop(&mut self) {
        let (Some(mut conn), Some(place)) = (self.conn.take(), self.place.take()) else { return };
        // Where nothing runs any more, the process ends.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            // One that is gone is at rest as well.
            let _ = conn.ping().await;
            drop((conn, place));
        });
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        let (Some(tx), Some(place)) = (self.tx.take(), self.place.take()) else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            // One that is gone is rolled back already.
            let _ = tx.rollback().await;
            drop(place);
        });
    }
}
