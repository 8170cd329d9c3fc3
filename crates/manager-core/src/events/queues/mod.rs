//! Queues: messages wait in a table of their own, and move to the outbox when their consumer has
//! room, as many as it may handle at once.
//!
//! A consumer that handles one at a time gets them strictly in order: one that fails keeps the others
//! waiting until it succeeds or is given up. One that handles several has room again as soon as an
//! attempt has ended, however it ended.
//!
//! Who owns an app's shard of the outbox moves the messages of its queues, because that is where attempts
//! end. Other nodes tell the owner of what they were sent, and it looks by itself when it takes over.

mod errand;
mod feeder;
mod lanes;
mod message;

use std::sync::Arc;

use sha2::{Digest, Sha256};
use shared::cause::Cause;
use shared::id::{AppId, DeliveryId, TriggerId};
use shared::limits::{QUEUE_DELAY_MS_MAX, QUEUE_MESSAGES_MAX, QUEUES_BYTES_MAX};
use shared::name::QueueName;
use sqlx::postgres::PgConnection;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::errand::Errand;
pub(crate) use self::feeder::Feeder;
use self::lanes::Lanes;
pub(crate) use self::message::{is_of, mark, order_key_again};
use crate::store;
use crate::store::outbox::Seen;
use crate::store::queues::{Load, NewMessage};

/// When to look for a message whose sender went away before it could say whether it had committed.
const DOUBT_MS: u64 = 1_000;

/// A message for a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) queue: &'a QueueName,
    /// JSON text that was checked.
    pub(crate) message: &'a str,
    pub(crate) delay_ms: u64,
    pub(crate) key: Option<&'a str>,
    pub(crate) dedup: Option<&'a str>,
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("a message can be delayed by {QUEUE_DELAY_MS_MAX} ms at most")]
    DelayTooLong,
    #[error("a key, and a word to tell repetitions by, has 1 to 512 bytes and no NUL")]
    InvalidKey,
    #[error("another message was sent under this word in the last 24 hours")]
    OtherMessage,
    #[error(
        "the app has {QUEUE_MESSAGES_MAX} messages waiting in its queues, or {} MiB of them and their keys; \
         no more are taken until some are handled or purged",
        QUEUES_BYTES_MAX >> 20
    )]
    Full,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// A handle on all queues.
#[derive(Debug, Clone)]
pub(crate) struct Queues {
    lanes: Arc<Lanes>,
    news: UnboundedSender<News>,
}

/// What the feeder is told.
#[derive(Debug)]
enum News {
    /// A queue may have something for its consumer after so long.
    Look {
        app: AppId,
        queue: QueueName,
        in_ms: u64,
    },
    /// Another node says the same, of a queue that may be ours.
    Told {
        app: AppId,
        queue: QueueName,
        in_ms: u64,
    },
    /// A consumer has room.
    Room(TriggerId),
    /// Shards are ours now, those with `true` as if they always had been.
    Acquired(Vec<(u8, bool)>),
    Lost(Vec<u8>),
    /// An app seems to have as much waiting as it may; other nodes may have moved some.
    Full,
}

/// The feeder's end.
#[derive(Debug)]
pub(crate) struct Inbox(UnboundedReceiver<News>);

/// A message that was sent in a transaction which is not committed yet.
#[must_use = "a message of which the feeder is not told is found only later"]
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) delivery: DeliveryId,
    load: Load,
    look: Option<(AppId, QueueName, u64)>,
    queues: Queues,
}

impl Queues {
    pub(crate) fn new() -> (Self, Inbox) {
        // Unbounded: what is told is about as many queues and executions as there are.
        let (news, inbox) = unbounded_channel();
        (Self { lanes: Arc::default(), news }, Inbox(inbox))
    }

    /// Sends a message in the caller's transaction. What it answers is to be told after the commit.
    pub(crate) async fn send(
        &self,
        conn: &mut PgConnection,
        app: AppId,
        message: Message<'_>,
        cause: impl FnOnce(DeliveryId) -> Cause,
    ) -> Result<Sent, SendError> {
        let Message { queue, delay_ms, key, .. } = message;
        if delay_ms > QUEUE_DELAY_MS_MAX {
            return Err(SendError::DelayTooLong);
        }
        let is_good = |word: &str| (1..=512).contains(&word.len()) && !word.contains('\0');
        if ![key, message.dedup].into_iter().flatten().all(is_good) {
            return Err(SendError::InvalidKey);
        }
        let load = Load::of_one(message.message, key);
        if !self.lanes.has_room(app, load) {
            let _ = self.news.send(News::Full);
            return Err(SendError::Full);
        }
        let delivery = DeliveryId::new();
        if let Some(word) = message.dedup {
            let (word, body) = (Sha256::digest(word).into(), Sha256::digest(message.message).into());
            let scope = format!("queue:{queue}");
            match store::outbox::remember(conn, app, &scope, &word, &body, delivery).await? {
                Seen::New => {}
                Seen::Before(delivery) => {
                    return Ok(Sent { delivery, load, look: None, queues: self.clone() });
                }
                Seen::Otherwise => return Err(SendError::OtherMessage),
            }
        }
        let message = message.message;
        let new = NewMessage { app, queue, delivery, message, key, delay_ms, cause: cause(delivery) };
        store::queues::insert(conn, &new).await?;
        Ok(Sent { delivery, load, look: Some((app, queue.clone(), delay_ms)), queues: self.clone() })
    }

    /// A queue may have something for its consumer: it was let go on.
    pub(crate) fn look(&self, app: AppId, queue: QueueName) {
        let _ = self.news.send(News::Look { app, queue, in_ms: 0 });
    }

    /// The first attempt at a message has ended, so its consumer has room for another.
    pub(crate) fn attempted(&self, consumer: TriggerId) {
        let _ = self.news.send(News::Room(consumer));
    }

    /// Shards of the outbox are ours, each with whether they were so before.
    pub(crate) fn acquired(&self, shards: Vec<(u8, bool)>) {
        let _ = self.news.send(News::Acquired(shards));
    }

    /// Shards of the outbox are ours no more.
    pub(crate) fn lost(&self, shards: Vec<u8>) {
        let _ = self.news.send(News::Lost(shards));
    }

    /// A node said that there is something in a queue.
    pub(crate) fn heard(&self, words: &str) {
        if let Some(Errand { app, queue, in_ms }) = Errand::read(words) {
            let _ = self.news.send(News::Told { app, queue, in_ms });
        }
    }

    /// Messages were thrown away.
    pub(crate) fn purged(&self, app: AppId, load: Load) {
        self.lanes.left(app, load);
    }
}

impl Sent {
    /// Tells that the message is there. Only after the commit.
    pub(crate) fn tell(mut self) -> DeliveryId {
        if let Some((app, queue, in_ms)) = self.look.take() {
            self.queues.lanes.came(app, self.load);
            let _ = self.queues.news.send(News::Look { app, queue, in_ms });
        }
        self.delivery
    }

    /// Lets the message be, because its transaction is rolled back.
    pub(crate) fn forget(mut self) {
        self.look = None;
    }
}

impl Drop for Sent {
    /// Whoever sent it went away, perhaps between the commit and this: then somebody looks.
    fn drop(&mut self) {
        if let Some((app, queue, in_ms)) = self.look.take() {
            let _ = self.queues.news.send(News::Look { app, queue, in_ms: in_ms + DOUBT_MS });
        }
    }
}
