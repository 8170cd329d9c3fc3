//! Tells the dispatcher whose the apps are: what somebody may have is for all their apps together.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::core::Event;
use crate::snapshot::Snapshot;
use crate::store::{self, Database};

/// When to ask again what the database did not answer.
const RETRY: Duration = Duration::from_secs(1);

/// Tells now, and again after each change of the configuration.
pub(super) fn start(
    database: Database,
    snapshot: &Snapshot,
    events: UnboundedSender<Event>,
) -> JoinHandle<()> {
    tokio::spawn(tell(database, snapshot.changes(), events))
}

async fn tell(database: Database, mut changes: watch::Receiver<()>, events: UnboundedSender<Event>) {
    loop {
        // What changes from here on is told of once more.
        changes.mark_unchanged();
        let is_known = match read(&database).await {
            Ok(owners) => events.send(owners).is_ok(),
            Err(error) => {
                tracing::warn!(%error, "whose the apps are could not be read");
                false
            }
        };
        tokio::select! {
            () = events.closed() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if !is_known => {}
        }
    }
}

async fn read(database: &Database) -> sqlx::Result<Event> {
    let mut conn = database.acquire().await?;
    let owners: HashMap<_, _> = store::outbox::owners(&mut conn).await?.into_iter().collect();
    Ok(Event::Owners(owners))
}
