//! Callers who wait in this process for what comes of a delivery.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use shared::id::DeliveryId;
use shared::invocation::WorkResult;
use tokio::sync::oneshot;
use uuid::Uuid;

/// Who waits, as a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Replies {
    /// Names this process in the rows whose answers are awaited here.
    pub(crate) process: Uuid,
    waiting: Arc<Mutex<HashMap<DeliveryId, oneshot::Sender<WorkResult>>>>,
}

/// Somebody's wait for an answer. Dropped, nobody waits any more.
#[derive(Debug)]
pub(crate) struct Reply {
    replies: Replies,
    delivery: DeliveryId,
    answer: oneshot::Receiver<WorkResult>,
}

impl Replies {
    pub(super) fn new() -> Self {
        Self { process: Uuid::now_v7(), waiting: Arc::default() }
    }

    /// Begins to wait. There are as many as there are requests, whose number is limited.
    pub(crate) fn expect(&self, delivery: DeliveryId) -> Reply {
        let (sender, answer) = oneshot::channel();
        self.lock().insert(delivery, sender);
        Reply { replies: self.clone(), delivery, answer }
    }

    /// Answers who waits; gives the result back when nobody does.
    pub(super) fn answer(&self, delivery: DeliveryId, result: WorkResult) -> Result<(), Box<WorkResult>> {
        let sender = self.lock().remove(&delivery);
        match sender {
            Some(sender) => sender.send(result).map_err(Box::new),
            None => Err(Box::new(result)),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<DeliveryId, oneshot::Sender<WorkResult>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reply {
    /// The answer; none when the platform ends before there is one.
    pub(crate) async fn wait(mut self) -> Option<WorkResult> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.replies.lock().remove(&self.delivery);
    }
}
