//! Watching executions as they end. Costs the hot path one load while nobody watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use shared::id::AppId;
use shared::invocation::ExecutionRecord;
use tokio::sync::broadcast::{self, error::RecvError};

/// People who watch at the same time.
const READERS_MAX: usize = 32;
/// Executions that a slow reader may be behind before it misses some.
const BACKLOG: usize = 1_024;

#[derive(Debug)]
pub(super) struct Tails {
    sender: broadcast::Sender<Message>,
    readers: Arc<AtomicUsize>,
    has_ended: AtomicBool,
}

#[derive(Debug, Clone)]
enum Message {
    Ended(Arc<ExecutionRecord>),
    EndOfTail,
}

impl Default for Tails {
    fn default() -> Self {
        let (sender, _) = broadcast::channel(BACKLOG);
        Self { sender, readers: Arc::default(), has_ended: AtomicBool::new(false) }
    }
}

/// So many people watch already that one more is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at most {READERS_MAX} people can follow logs at the same time")]
pub(crate) struct TooManyTails;

impl Tails {
    pub(super) fn send(&self, record: &ExecutionRecord) {
        if self.readers.load(Ordering::Relaxed) > 0 {
            // Fails only when the last reader has just left.
            let _ = self.sender.send(Message::Ended(Arc::new(record.clone())));
        }
    }

    pub(super) fn open(&self) -> Result<TailReader, TooManyTails> {
        let place = Place(Arc::clone(&self.readers));
        if place.0.fetch_add(1, Ordering::AcqRel) >= READERS_MAX {
            return Err(TooManyTails);
        }
        let receiver = self.sender.subscribe();
        // Looked at after subscribing, so that an end in between is seen here or received.
        Ok(TailReader { receiver, _place: place, is_over: self.has_ended.load(Ordering::Acquire) })
    }

    pub(super) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
        let _ = self.sender.send(Message::EndOfTail);
    }
}

#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One who watches.
#[derive(Debug)]
pub(crate) struct TailReader {
    receiver: broadcast::Receiver<Message>,
    _place: Place,
    is_over: bool,
}

#[derive(Debug)]
pub(crate) enum TailEvent {
    Ended(Arc<ExecutionRecord>),
    /// The reader was too slow; so many executions of the instance passed unseen.
    Gap(u64),
}

impl TailReader {
    /// The next execution of an app; nothing when the recorder stops.
    pub(crate) async fn next(&mut self, app: AppId) -> Option<TailEvent> {
        while !self.is_over {
            match self.receiver.recv().await {
                Ok(Message::Ended(record)) if record.target.app == app => {
                    return Some(TailEvent::Ended(record));
                }
                Ok(Message::Ended(_)) => {}
                Err(RecvError::Lagged(missed)) => return Some(TailEvent::Gap(missed)),
                Ok(Message::EndOfTail) | Err(RecvError::Closed) => self.is_over = true,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use shared::invocation::ExecutionStatus;

    use super::super::testing::record;
    use super::*;

    #[tokio::test]
    async fn a_reader_sees_executions_of_its_app_only() {
        let tails = Tails::default();
        let (mine, other) = (record(ExecutionStatus::Ok), record(ExecutionStatus::Ok));
        let mut reader = tails.open().unwrap();
        tails.send(&other);
        tails.send(&mine);
        let Some(TailEvent::Ended(seen)) = reader.next(mine.target.app).await else { panic!("nothing seen") };
        assert_eq!(seen.id, mine.id);
    }

    #[tokio::test]
    async fn a_reader_that_lags_is_told_how_much_it_missed() {
        let tails = Tails::default();
        let mut reader = tails.open().unwrap();
        let one = record(ExecutionStatus::Ok);
        for _ in 0..BACKLOG + 3 {
            tails.send(&one);
        }
        assert!(matches!(reader.next(one.target.app).await, Some(TailEvent::Gap(3))));
        assert!(matches!(reader.next(one.target.app).await, Some(TailEvent::Ended(_))));
    }

    #[tokio::test]
    async fn the_end_reaches_readers_of_before_and_after() {
        let tails = Tails::default();
        let mut before = tails.open().unwrap();
        tails.end();
        let mut after = tails.open().unwrap();
        assert!(before.next(AppId::new()).await.is_none());
        assert!(after.next(AppId::new()).await.is_none());
    }

    #[test]
    fn one_reader_too_many_is_refused_until_another_leaves() {
        let tails = Tails::default();
        let mut readers: Vec<_> = (0..READERS_MAX).map(|_| tails.open().unwrap()).collect();
        assert_eq!(tails.open().unwrap_err(), TooManyTails);
        readers.pop();
        assert!(tails.open().is_ok());
    }
}
