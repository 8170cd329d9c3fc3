//! Group commit: events that come while others are being written are written together next, in one statement,
//! which is a commit of its own. Nobody hears that an event was taken before it is on the disk, and nobody waits
//! for company: what comes alone is written alone.
//!
//! A statement costs PostgreSQL more than a row of it does, and a commit more than either.

use std::collections::HashMap;

use shared::id::AppId;
use tokio::sync::{mpsc, oneshot};

use super::event::NewEvent;
use super::outbox::{EmitError, Load, Outbox};
use crate::store::{Conn, Database};

/// Events of one statement.
const BATCH_MAX: usize = 256;
/// Bytes of their payloads after which a batch takes no more.
const BATCH_BYTES: usize = 4 << 20;
/// Events that wait to be written; whoever comes then waits for a place.
const WAITING_MAX: usize = 1_024;

/// Where events are given to be written. When the last handle is gone, what waits is written, and that is the end.
#[derive(Debug, Clone)]
pub(super) struct Intake {
    inlet: mpsc::Sender<Entry>,
}

#[derive(Debug)]
struct Entry {
    event: NewEvent,
    written: oneshot::Sender<Result<(), EmitError>>,
}

impl Intake {
    pub(super) fn start(database: Database, outbox: Outbox) -> Self {
        let (inlet, entries) = mpsc::channel(WAITING_MAX);
        tokio::spawn(Writer { database, outbox }.run(entries));
        Self { inlet }
    }

    /// Answers when the event is on the disk and in the dispatcher's hands. Whoever stops waiting does not take it back.
    pub(super) async fn write(&self, event: NewEvent) -> Result<(), EmitError> {
        let (written, answer) = oneshot::channel();
        let gone = || EmitError::Database(sqlx::Error::WorkerCrashed);
        self.inlet.send(Entry { event, written }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

struct Writer {
    database: Database,
    outbox: Outbox,
}

impl Writer {
    async fn run(self, mut entries: mpsc::Receiver<Entry>) {
        let mut batch = Vec::new();
        // Kept while there is more to write.
        let mut conn = None;
        while let Some(first) = entries.recv().await {
            let mut bytes = first.event.payload.as_bytes().len();
            batch.push(first);
            while batch.len() < BATCH_MAX && bytes < BATCH_BYTES {
                let Ok(entry) = entries.try_recv() else { break };
                bytes += entry.event.payload.as_bytes().len();
                batch.push(entry);
            }
            self.write(&mut conn, std::mem::take(&mut batch)).await;
            if entries.is_empty() {
                conn = None;
            }
        }
    }

    async fn write(&self, conn: &mut Option<Conn>, batch: Vec<Entry>) {
        let (events, waiting): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|entry| (entry.event, entry.written)).unzip();
        match self.insert(conn, events).await {
            Ok(taken) => {
                for (written, is_taken) in waiting.into_iter().zip(taken) {
                    // Whoever has gone meanwhile finds the event delivered all the same.
                    let _ = written.send(if is_taken { Ok(()) } else { Err(EmitError::Full) });
                }
            }
            Err(error) => {
                // Perhaps it is the connection: the next batch gets another.
                *conn = None;
                tracing::warn!(%error, events = waiting.len(), "events could not be written down");
                // Their ends are dropped, which says the same.
            }
        }
    }

    /// Writes those events whose apps may have more; answers which.
    async fn insert(&self, conn: &mut Option<Conn>, events: Vec<NewEvent>) -> sqlx::Result<Vec<bool>> {
        let conn = match conn {
            Some(conn) => conn,
            None => conn.insert(self.database.acquire().await?),
        };
        let mut loads: HashMap<AppId, Load> = HashMap::new();
        let (mut kept, mut taken) = (Vec::with_capacity(events.len()), Vec::with_capacity(events.len()));
        for event in events {
            let load = loads.get(&event.app).copied().unwrap_or_default().plus(Load::of(&event));
            let has_room = self.outbox.has_room(conn, &HashMap::from([(event.app, load)])).await?;
            if has_room {
                loads.insert(event.app, load);
                kept.push(event);
            }
            taken.push(has_room);
        }
        match self.outbox.insert_beyond(conn, kept).await {
            Ok(pending) => pending.hand_over(),
            Err(error) => {
                // It may be there all the same, when only the answer was lost.
                self.outbox.doubt();
                return Err(error);
            }
        }
        Ok(taken)
    }
}
