//! What goes on beside the dispatcher: the times of cron triggers, the queues, and the events that
//! wait for their triggers. Each sleeps unless it has something to do.

use std::sync::{Arc, Mutex, PoisonError};

use shared::id::TriggerId;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Outbox;
use super::cron::Timekeeper;
use super::held::Releaser;
use super::queues::{Feeder, Inbox, Queues};
use crate::snapshot::Snapshot;
use crate::store::Database;

/// The tasks, as a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Keepers {
    pub(crate) queues: Queues,
    /// Hears of events that wait for their trigger.
    pub(crate) holds: UnboundedSender<TriggerId>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inlets: Mutex<Option<(Inbox, UnboundedReceiver<TriggerId>)>>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Keepers {
    /// Takes messages in; moves none before it is started.
    pub(crate) fn new() -> Self {
        let (queues, inbox) = Queues::new();
        // Unbounded: an event is told of once, when it is written, and those are limited for each app.
        let (holds, held) = unbounded_channel();
        let shared = Shared {
            inlets: Mutex::new(Some((inbox, held))),
            stop: watch::Sender::new(false),
            tasks: Mutex::default(),
        };
        Self { queues, holds, shared: Arc::new(shared) }
    }

    pub(crate) fn start(&self, database: &Database, snapshot: &Arc<Snapshot>, outbox: &Outbox) {
        let inlets = self.shared.inlets.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((inbox, holds)) = inlets else { return };
        let parts = || (database.clone(), Arc::clone(snapshot), outbox.clone());
        let stop = || self.shared.stop.subscribe();
        let (database, snapshot, outbox) = parts();
        let timekeeper = Timekeeper::new(database, snapshot, outbox);
        let (database, snapshot, outbox) = parts();
        let feeder = Feeder::new(database, snapshot, outbox, self.queues.clone(), inbox);
        let (database, snapshot, outbox) = parts();
        let releaser = Releaser { database, snapshot, outbox, holds };
        let tasks = [
            tokio::spawn(timekeeper.run(stop())),
            tokio::spawn(feeder.run(stop())),
            tokio::spawn(releaser.run(stop())),
        ];
        self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend(tasks);
    }

    /// Makes no more events, and waits until none is being made.
    pub(crate) async fn stop(&self) {
        self.shared.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if task.await.is_err() {
                tracing::error!("a task that makes events ended by itself");
            }
        }
    }
}
