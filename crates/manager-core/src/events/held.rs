//! Events of triggers that may not run wait in the outbox, and are released when their trigger may:
//! when it is switched on, taken over, or its registrant has the right again. Those of a trigger that
//! was removed are released too, and become dead letters.
//!
//! Whether an event is to wait is decided before that is written down, and its trigger may be resumed
//! in between. So each hold is told once it is written, and then looked at once more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use shared::id::TriggerId;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use super::Outbox;
use super::triggers::TriggerTable;
use crate::snapshot::Snapshot;
use crate::store::{self, Database};

/// When to ask again what a database that did not answer was asked.
const RETRY: Duration = Duration::from_secs(1);

/// Releases events.
pub(crate) struct Releaser {
    pub(crate) database: Database,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) outbox: Outbox,
    /// Triggers of which an event was written down as waiting.
    pub(crate) holds: UnboundedReceiver<TriggerId>,
}

impl Releaser {
    /// Runs until the sender of `stop` sends or goes.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut changed = self.snapshot.changes();
        // At first nobody knows whose events are held although they may run.
        let mut held = None;
        loop {
            if let Err(error) = self.release(&mut held).await {
                tracing::warn!(%error, "events that may go on wait for the database");
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => continue,
                    _ = stop.changed() => return,
                }
            }
            tokio::select! {
                Some(trigger) = self.holds.recv() => {
                    held.get_or_insert_with(BTreeSet::new).insert(trigger);
                    while let Ok(trigger) = self.holds.try_recv() {
                        held.get_or_insert_with(BTreeSet::new).insert(trigger);
                    }
                }
                changes = changed.changed() => if changes.is_err() { return },
                _ = stop.changed() => return,
            }
        }
    }

    /// Releases the events of those triggers that wait for nothing any more; `held` has the others
    /// afterwards.
    async fn release(&self, held: &mut Option<BTreeSet<TriggerId>>) -> sqlx::Result<()> {
        let waiting = match held {
            Some(waiting) => waiting,
            None => {
                let mut conn = self.database.acquire().await?;
                held.insert(store::triggers::with_held_events(&mut conn).await?.into_iter().collect())
            }
        };
        let free = free(waiting, &self.snapshot.triggers());
        if free.is_empty() {
            return Ok(());
        }
        let mut conn = self.database.acquire().await?;
        let mut events = 0;
        for trigger in free {
            events += store::outbox::release_held(&mut conn, trigger).await?;
            waiting.remove(&trigger);
        }
        if events > 0 {
            tracing::info!(events, "events that waited for their triggers go on");
            self.outbox.nudge();
        }
        Ok(())
    }
}

/// Triggers that may run, or are gone.
fn free(held: &BTreeSet<TriggerId>, table: &TriggerTable) -> Vec<TriggerId> {
    held.iter().copied().filter(|id| table.get(*id).is_none_or(|trigger| trigger.may_run())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::id::AppId;

    use super::*;
    use crate::events::triggers::testing::trigger;
    use crate::events::triggers::{Kind, Trigger};

    #[test]
    fn what_may_run_again_and_what_is_gone_waits_no_longer() {
        let app = AppId::new();
        let new = || trigger(app, Kind::Pubsub, &json!({ "topic": "*" }));
        let [on, off, paused, gone] = std::array::from_fn(|_| new());
        let off = Trigger { is_enabled: false, ..off };
        let paused = Trigger { paused: Some("nobody".into()), ..paused };
        let table = TriggerTable::new([on.clone(), off.clone(), paused.clone()]);
        let held = [on.id, off.id, paused.id, gone.id].into();
        let mut expected = vec![on.id, gone.id];
        expected.sort();
        assert_eq!(free(&held, &table), expected);
    }
}
