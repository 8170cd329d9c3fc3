//! What nodes tell each other: that there is something to read, and what is kept nowhere.
//!
//! It is told outside of the transaction that publishes: PostgreSQL lets commits that notify somebody take turns.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::DateTime;
use shared::id::AppId;
use shared::name::TopicName;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::{Passing, Subject};
use crate::store::{self, Database};

/// Others are told at most this often, however much is published.
const TELL_EVERY: Duration = Duration::from_millis(5);
/// The same after messages that are kept nowhere: they share the connection by which nodes hear of everything else.
const PASS_ON_EVERY: Duration = Duration::from_millis(20);
/// Messages that wait to be passed on. More are dropped: nothing was promised of them.
const PASSING_MAX: usize = 32;

/// What is told of a topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// There is something new in its history.
    Look(Subject),
    Passing(Subject, Arc<Passing>),
}

#[derive(Debug)]
pub(super) struct Neighbours {
    /// By which what this node told is known when it hears it itself.
    node: Uuid,
    outbox: Arc<Outbox>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct Outbox {
    waiting: Mutex<Waiting>,
    is_filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    look: HashSet<Subject>,
    passing: Vec<(Subject, Arc<Passing>)>,
}

impl Neighbours {
    pub(super) fn start(database: Database, node: Uuid) -> Self {
        let outbox = Arc::<Outbox>::default();
        let task = tokio::spawn(send(database, node, Arc::clone(&outbox))).abort_handle();
        Self { node, outbox, task }
    }

    pub(super) fn tell(&self, word: Word) {
        let mut waiting = self.outbox.lock();
        match word {
            Word::Look(subject) => _ = waiting.look.insert(subject),
            Word::Passing(..) if waiting.passing.len() >= PASSING_MAX => {
                tracing::debug!("a message that is kept nowhere is not passed on: too many are");
                return;
            }
            Word::Passing(subject, passing) => waiting.passing.push((subject, passing)),
        }
        drop(waiting);
        self.outbox.is_filled.notify_one();
    }

    /// What another node has told; nothing of what this one did.
    pub(super) fn read(&self, text: &str) -> Option<Word> {
        let (node, word) = text.split_once(' ')?;
        if node == self.node.to_string() {
            return None;
        }
        let word = Word::parse(word);
        if word.is_none() {
            tracing::warn!("something that is no word was told on the channel of topics");
        }
        word
    }

    pub(super) fn end(&self) {
        self.task.abort();
    }
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Word {
    /// At most 7.5 KiB, as a passing message has at most 7 KiB: PostgreSQL takes less than 8,000 bytes.
    fn to_text(&self) -> String {
        match self {
            Self::Look(Subject { app, topic }) => format!("{app} {topic}"),
            Self::Passing(Subject { app, topic }, passing) => {
                let Passing { message, published_at } = &**passing;
                format!("{app} {topic} {} {message}", published_at.timestamp_micros())
            }
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ' ');
        let app = AppId::from_uuid(parts.next()?.parse().ok()?);
        let topic: TopicName = parts.next()?.parse().ok()?;
        let subject = Subject { app, topic };
        let Some(time) = parts.next() else { return Some(Self::Look(subject)) };
        let published_at = DateTime::from_timestamp_micros(time.parse().ok()?)?;
        let message = parts.next()?.to_owned();
        Some(Self::Passing(subject, Arc::new(Passing { message, published_at })))
    }
}

/// Sends what waits, in its own connection's transaction.
async fn send(database: Database, node: Uuid, outbox: Arc<Outbox>) {
    loop {
        outbox.is_filled.notified().await;
        let Waiting { look, passing } = std::mem::take(&mut *outbox.lock());
        let pause = if passing.is_empty() { TELL_EVERY } else { PASS_ON_EVERY };
        let look = look.into_iter().map(Word::Look);
        let passing = passing.into_iter().map(|(subject, passing)| Word::Passing(subject, passing));
        let words: Vec<String> =
            look.chain(passing).map(|word| format!("{node} {}", word.to_text())).collect();
        if words.is_empty() {
            continue;
        }
        let told = async {
            let mut conn = database.acquire().await?;
            store::channels::tell(&mut conn, store::topic_messages::CHANNEL, &words).await
        };
        if let Err(error) = told.await {
            // They look by themselves after a while.
            tracing::warn!(%error, "other nodes could not be told what was published");
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;

    fn subject() -> Subject {
        Subject { app: AppId::new(), topic: "orders.new".parse().unwrap() }
    }

    #[test]
    fn what_is_told_is_what_is_heard() {
        let published_at = DateTime::from_timestamp_micros(Utc::now().timestamp_micros()).unwrap();
        for message in ["null", r#"{"a b":  [1, " "]}"#, r#"" ""#] {
            let passing = Passing { message: message.to_owned(), published_at };
            let word = Word::Passing(subject(), Arc::new(passing));
            assert_eq!(Word::parse(&word.to_text()), Some(word));
        }
        let word = Word::Look(subject());
        assert_eq!(Word::parse(&word.to_text()), Some(word));
    }

    #[test]
    fn what_is_no_word_says_nothing() {
        let app = AppId::new();
        for text in ["", "x", "x orders", &format!("{app}"), &format!("{app} a b"), &format!("{app} a x 1")] {
            assert_eq!(Word::parse(text), None, "{text:?}");
        }
    }
}
