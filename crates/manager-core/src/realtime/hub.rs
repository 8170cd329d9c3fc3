//! Who listens to what on this node. Each topic that somebody listens to has one task that reads what is new of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::Utc;
use shared::id::AppId;
use shared::name::TopicName;
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::listener::Listener;
use super::neighbours::{Neighbours, Word};
use super::places::Places;
use super::reads::{Reading, Reads};
use super::{Passing, Subject, spread};
use crate::store::topic_messages::TopicMessage;
use crate::store::{self, Database};

/// Messages that a listener may be behind in memory: more than one commit can bring. They are shared by all who listen.
const BEHIND_MAX: usize = 128;
/// A message that is handed to all who listen; one who does not read keeps so many of them in memory. What is longer, each reads
/// from the history.
const HANDED_BYTES_MAX: usize = 4 << 10;
/// A topic that is listened to is looked at this often, whatever is heard of it: a node that has ended between a commit and telling
/// the others of it has told nobody.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How long to wait when the database is away.
const RETRY: Duration = Duration::from_secs(1);
/// How often old messages are removed. They are read by nobody who does not ask for them.
const EXPIRE_EVERY: Duration = Duration::from_hours(1);
/// Messages removed by one statement, which holds their locks for so long.
const EXPIRE_BATCH: i64 = 500;

/// A node's listeners, as a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Hub(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    reads: Reads,
    rooms: Mutex<Rooms>,
    neighbours: Neighbours,
    has_ended: watch::Sender<bool>,
    expiry: AbortHandle,
}

#[derive(Debug, Default)]
struct Rooms {
    by_subject: HashMap<Subject, Room>,
    places: Places,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.neighbours.end();
        self.expiry.abort();
    }
}

/// Those who listen to a topic.
#[derive(Debug)]
struct Room {
    news: broadcast::Sender<News>,
    look: Arc<Notify>,
    reader: AbortHandle,
    listeners: usize,
}

/// What is told to who listens to a topic.
#[derive(Debug, Clone)]
pub(super) enum News {
    Message(Arc<TopicMessage>),
    Passing(Arc<Passing>),
    /// There is a message of this id in the history.
    Newest(i64),
    /// The topic is another one of the same name: its messages are numbered anew.
    Anew,
}

/// There is no place for one more who listens.
#[derive(Debug, thiserror::Error)]
#[error("as many listen already as can; try again soon")]
pub(crate) struct Full;

/// One who has a place, and hears already.
#[derive(Debug)]
pub(crate) struct Entered {
    seat: Seat,
    news: broadcast::Receiver<News>,
}

/// A message that was written in a transaction which is not committed yet.
#[must_use = "a message that is not told is found only later"]
#[derive(Debug)]
pub(crate) struct Published {
    hub: Hub,
    subject: Subject,
}

impl Published {
    /// Lets it be heard. Only after the commit.
    pub(crate) fn tell(self) {
        self.hub.look(&self.subject);
        self.hub.0.neighbours.tell(Word::Look(self.subject));
    }
}

impl Hub {
    pub(crate) fn start(database: Database) -> Self {
        Self(Arc::new(Shared {
            rooms: Mutex::default(),
            neighbours: Neighbours::start(database.clone(), Uuid::now_v7()),
            has_ended: watch::Sender::new(false),
            expiry: tokio::spawn(expire(database.clone())).abort_handle(),
            reads: Reads::new(database),
        }))
    }

    /// Takes a place among those who listen. First of all, so that nothing is missed between looking for the newest message and
    /// hearing the next.
    pub(crate) fn enter(&self, subject: Subject, address: Option<IpAddr>) -> Result<Entered, Full> {
        let mut rooms = self.rooms();
        if !rooms.places.take(subject.app, address) {
            return Err(Full);
        }
        let begin = || Room::open(self.0.reads.clone(), subject.clone());
        let room = rooms.by_subject.entry(subject.clone()).or_insert_with(begin);
        room.listeners += 1;
        let news = room.news.subscribe();
        Ok(Entered { seat: Seat { hub: self.clone(), subject, address }, news })
    }

    /// Begins to listen. `after` is the id behind which messages are wanted; without one, those that are published from
    /// now on.
    pub(crate) async fn open(&self, entered: Entered, after: Option<i64>) -> sqlx::Result<Listener> {
        let Entered { seat, news } = entered;
        let subject = seat.subject.clone();
        Listener::open(self.0.reads.clone(), (subject, after), (news, self.has_ended()), seat).await
    }

    /// Turns true when all streams are to end.
    pub(crate) fn has_ended(&self) -> watch::Receiver<bool> {
        self.0.has_ended.subscribe()
    }

    /// A connection to ask for somebody who listens.
    pub(crate) async fn acquire(&self) -> sqlx::Result<Reading> {
        self.0.reads.acquire().await
    }

    /// What is to be told after the commit of a message in this topic's history.
    pub(crate) fn published(&self, subject: Subject) -> Published {
        Published { hub: self.clone(), subject }
    }

    /// Tells a message to who listens now, on all nodes. JSON text.
    pub(crate) fn pass_on(&self, subject: Subject, message: &str) {
        let passing = Arc::new(Passing { message: message.to_owned(), published_at: Utc::now() });
        self.tell(&subject, News::Passing(Arc::clone(&passing)));
        self.0.neighbours.tell(Word::Passing(subject, passing));
    }

    /// Another node has told something on the channel.
    pub(crate) fn heard(&self, text: &str) {
        match self.0.neighbours.read(text) {
            Some(Word::Look(subject)) => self.look(&subject),
            Some(Word::Passing(subject, passing)) => self.tell(&subject, News::Passing(passing)),
            None => {}
        }
    }

    /// Nobody listened to the other nodes for a while.
    pub(crate) fn look_everywhere(&self) {
        self.rooms().by_subject.values().for_each(|room| room.look.notify_one());
    }

    /// Ends all streams, and lets nobody begin another.
    pub(crate) fn end_streams(&self) {
        self.0.has_ended.send_replace(true);
    }

    /// Ends what else is done here.
    pub(crate) fn close(&self) {
        self.end_streams();
        self.0.neighbours.end();
        self.0.expiry.abort();
    }

    fn look(&self, subject: &Subject) {
        if let Some(room) = self.rooms().by_subject.get(subject) {
            room.look.notify_one();
        }
    }

    fn tell(&self, subject: &Subject, news: News) {
        if let Some(room) = self.rooms().by_subject.get(subject) {
            // Fails only when nobody listens.
            let _ = room.news.send(news);
        }
    }

    fn leave(&self, subject: &Subject, address: Option<IpAddr>) {
        let mut rooms = self.rooms();
        let Some(room) = rooms.by_subject.get_mut(subject) else { return };
        room.listeners -= 1;
        if room.listeners == 0
            && let Some(room) = rooms.by_subject.remove(subject)
        {
            room.reader.abort();
        }
        rooms.places.give_back(subject.app, address);
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those who listen; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    hub: Hub,
    subject: Subject,
    address: Option<IpAddr>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.leave(&self.subject, self.address);
    }
}

impl Room {
    fn open(reads: Reads, subject: Subject) -> Self {
        let (news, _) = broadcast::channel(BEHIND_MAX);
        let look = Arc::new(Notify::new());
        let reader = tokio::spawn(read(reads, subject, news.clone(), Arc::clone(&look))).abort_handle();
        Self { news, look, reader, listeners: 0 }
    }
}

/// Reads what is new of a topic, until nobody listens any more.
async fn read(reads: Reads, subject: Subject, news: broadcast::Sender<News>, look: Arc<Notify>) {
    let mut last = None;
    loop {
        match read_new(&reads, &subject, &news, &mut last).await {
            Ok(()) => tokio::select! {
                () = look.notified() => {}
                () = tokio::time::sleep(spread(LOOK_EVERY)) => {}
            },
            Err(sqlx::Error::PoolClosed) => return,
            Err(error) => {
                // There may be thousands who say so.
                tracing::debug!(%error, "what is published cannot be read; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn read_new(
    reads: &Reads,
    Subject { app, topic }: &Subject,
    news: &broadcast::Sender<News>,
    last: &mut Option<i64>,
) -> sqlx::Result<()> {
    // Sending fails only when nobody listens.
    let tell = |what| _ = news.send(what);
    let Some(mut after) = *last else {
        let newest = newest(reads, *app, topic).await?;
        tell(News::Newest(newest));
        *last = Some(newest);
        return Ok(());
    };
    let begun = after;
    loop {
        // A connection for each batch: others go first.
        let found = {
            let mut conn = reads.acquire().await?;
            store::topic_messages::after(&mut conn, *app, topic, after).await?
        };
        if found.is_empty() {
            break;
        }
        for message in found {
            after = message.id;
            let is_long = message.message.len() > HANDED_BYTES_MAX;
            tell(if is_long { News::Newest(after) } else { News::Message(Arc::new(message)) });
        }
        *last = Some(after);
    }
    if after == begun {
        let newest = newest(reads, *app, topic).await?;
        if newest < after {
            tell(News::Anew);
            *last = Some(newest);
        }
    }
    Ok(())
}

async fn newest(reads: &Reads, app: AppId, topic: &TopicName) -> sqlx::Result<i64> {
    let mut conn = reads.acquire().await?;
    Ok(store::topic_messages::newest(&mut conn, app, topic).await?.unwrap_or_default())
}

/// Removes old messages from time to time.
async fn expire(database: Database) {
    loop {
        let removed = async {
            let _turn = database.turn().await;
            let mut conn = database.acquire().await?;
            store::topic_messages::expire(&mut conn, EXPIRE_BATCH).await
        };
        match removed.await {
            Ok(removed) if removed >= EXPIRE_BATCH.unsigned_abs() => continue,
            Ok(_) => {}
            Err(sqlx::Error::PoolClosed) => return,
            Err(error) => tracing::warn!(%error, "old messages of topics could not be removed"),
        }
        tokio::time::sleep(EXPIRE_EVERY).await;
    }
}
