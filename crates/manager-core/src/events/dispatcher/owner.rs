//! Owning shards: by advisory locks on a connection of its own, on which nothing else is done but to
//! listen for what other nodes write and change. When the connection ends, so does the ownership; nobody asks
//! from time to time whether it still holds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::core::Event;
use crate::events::queues::Queues;
use crate::events::row::SHARDS;
use crate::realtime::Hub;
use crate::snapshot::Snapshot;
use crate::store::outbox::Acquired;
use crate::store::{self, Database};

const RETRY_FIRST: Duration = Duration::from_millis(50);
/// Another node takes over within this after the first one's locks are free.
const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// Others are told at most this often, however much is written.
const TELL_EVERY: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Ownership {
    current: Arc<Mutex<Uuid>>,
    tell: Arc<Notify>,
    tasks: [JoinHandle<()>; 2],
}

pub(super) fn start(
    database: Database,
    events: UnboundedSender<Event>,
    queues: Queues,
    (snapshot, hub): (Arc<Snapshot>, Hub),
) -> Ownership {
    let current = Arc::new(Mutex::new(Uuid::nil()));
    let tell = Arc::new(Notify::new());
    let told = Told { events, queues, snapshot, hub };
    let own = tokio::spawn(own(database.clone(), told, Arc::clone(&current)));
    let telling = tokio::spawn(tell_others(database, Arc::clone(&tell)));
    Ownership { current, tell, tasks: [own, telling] }
}

impl Ownership {
    /// What proves to the database that a shard is ours.
    pub(super) fn current(&self) -> Uuid {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell_others(&self) {
        self.tell.notify_one();
    }

    /// Gives the shards up, in order if nothing of theirs runs any more.
    pub(super) async fn end(self, database: &Database, is_clean: bool) {
        if is_clean {
            let released = async {
                let mut conn = database.acquire().await?;
                store::outbox::release(&mut conn, self.current()).await
            };
            if let Err(error) = released.await {
                tracing::warn!(%error, "the outbox could not be given up; the next start will be careful with it");
            }
        }
        for task in self.tasks {
            task.abort();
        }
    }
}

/// Who is told of what is ours, and of what others say.
struct Told {
    events: UnboundedSender<Event>,
    queues: Queues,
    snapshot: Arc<Snapshot>,
    hub: Hub,
}

impl Told {
    /// The queues first: an attempt that ends is one of a shard that they know of.
    fn acquired(&self, shards: Vec<Acquired>, owned: &mut Vec<u8>) {
        if shards.is_empty() {
            return;
        }
        self.queues.acquired(shards.iter().map(|shard| (shard.shard, shard.is_continued)).collect());
        for Acquired { shard, suspect_max_id, last_id, is_continued } in shards {
            owned.push(shard);
            let _ = self.events.send(Event::Acquired { shard, suspect_max_id, last_id, is_continued });
        }
    }

    fn lost(&self, shards: Vec<u8>) {
        for shard in &shards {
            let _ = self.events.send(Event::Lost { shard: *shard });
        }
        self.queues.lost(shards);
    }
}

async fn own(database: Database, told: Told, current: Arc<Mutex<Uuid>>) {
    let mut previous = None;
    let mut pause = RETRY_FIRST;
    loop {
        let owner = Uuid::now_v7();
        *current.lock().unwrap_or_else(PoisonError::into_inner) = owner;
        let mut owned = Vec::new();
        if let Err(error) = hold(&database, &told, owner, previous, &mut owned).await {
            tracing::warn!(%error, "the outbox cannot be owned now; trying again");
        }
        if !owned.is_empty() {
            tracing::warn!(shards = owned.len(), "the connection that owns the outbox ended");
            (previous, pause) = (Some(owner), RETRY_FIRST);
        }
        told.lost(owned);
        if told.events.is_closed() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_LONGEST);
    }
}

/// Owns what it can get until the connection ends.
async fn hold(
    database: &Database,
    told: &Told,
    owner: Uuid,
    previous: Option<Uuid>,
    owned: &mut Vec<u8>,
) -> sqlx::Result<()> {
    let channels = [
        store::outbox::CHANNEL,
        store::queues::CHANNEL,
        store::changes::CHANNEL,
        store::topic_messages::CHANNEL,
    ];
    let mut listener = database.listener(&channels).await?;
    // Nobody listened until now.
    told.snapshot.refresh();
    told.hub.look_everywhere();
    let mut pause = RETRY_FIRST;
    loop {
        told.acquired(store::outbox::acquire(&mut listener, owner, previous).await?, owned);
        // While another node has some, they may come free at any time.
        let is_complete = owned.len() == usize::from(SHARDS);
        match next(&mut listener, (!is_complete).then_some(pause)).await? {
            Heard::Written => drop(told.events.send(Event::Dirty)),
            Heard::Queue(words) => told.queues.heard(&words),
            Heard::Topic(words) => told.hub.heard(&words),
            Heard::Change(by) => told.snapshot.heard(&by),
            Heard::Nothing => pause = (pause * 2).min(RETRY_LONGEST),
            Heard::End => return Ok(()),
        }
    }
}

enum Heard {
    Written,
    Queue(String),
    Topic(String),
    /// Of the configuration, by this node.
    Change(String),
    Nothing,
    End,
}

async fn next(listener: &mut PgListener, patience: Option<Duration>) -> sqlx::Result<Heard> {
    let heard = match patience {
        None => listener.try_recv().await?,
        Some(patience) => match tokio::time::timeout(patience, listener.try_recv()).await {
            Ok(heard) => heard?,
            Err(_) => return Ok(Heard::Nothing),
        },
    };
    let Some(heard) = heard else { return Ok(Heard::End) };
    let words = heard.payload().to_owned();
    Ok(match heard.channel() {
        store::queues::CHANNEL => Heard::Queue(words),
        store::topic_messages::CHANNEL => Heard::Topic(words),
        store::changes::CHANNEL => Heard::Change(words),
        _ => Heard::Written,
    })
}

/// Tells other nodes that they have something to read: outside of any transaction, whose commit it
/// would slow down, and few times however much is written.
async fn tell_others(database: Database, tell: Arc<Notify>) {
    loop {
        tell.notified().await;
        let told = async {
            let mut conn = database.acquire().await?;
            store::outbox::notify(&mut conn).await
        };
        if let Err(error) = told.await {
            // They read by themselves after a while.
            tracing::warn!(%error, "other nodes could not be told of events");
        }
        tokio::time::sleep(TELL_EVERY).await;
    }
}
