//! One who listens: what they have heard, and what they hear next.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use super::hub::{News, Seat};
use super::reads::Reads;
use super::{Passing, Subject};
use crate::store;
use crate::store::topic_messages::TopicMessage;

/// What a listener is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Message(Arc<TopicMessage>),
    Passing(Arc<Passing>),
    /// So many messages are not in the history any more, none where that cannot be said; up to which id.
    Gap {
        missed: Option<u64>,
        until: i64,
    },
}

#[derive(Debug)]
pub(crate) struct Listener {
    reads: Reads,
    subject: Subject,
    news: broadcast::Receiver<News>,
    has_ended: watch::Receiver<bool>,
    /// The id of the last message that was told, or that is not to be told.
    told: i64,
    /// Whether there is more in the history than what is `ready`.
    is_behind: bool,
    ready: VecDeque<Heard>,
    _seat: Seat,
}

impl Listener {
    pub(super) async fn open(
        reads: Reads,
        (subject, after): (Subject, Option<i64>),
        (news, has_ended): (broadcast::Receiver<News>, watch::Receiver<bool>),
        seat: Seat,
    ) -> sqlx::Result<Self> {
        let newest = {
            let mut conn = reads.acquire().await?;
            store::topic_messages::newest(&mut conn, subject.app, &subject.topic).await?.unwrap_or_default()
        };
        let mut ready = VecDeque::new();
        // Of a topic that there was before under this name, or made up.
        if after.is_some_and(|after| after > newest) {
            ready.push_back(Heard::Gap { missed: None, until: newest });
        }
        let told = after.unwrap_or(newest).min(newest);
        let is_behind = told < newest;
        Ok(Self { reads, subject, news, has_ended, told, is_behind, ready, _seat: seat })
    }

    /// The id behind which they hear what comes next; nothing while they are to be told of a gap, which has one itself.
    pub(crate) fn behind(&self) -> Option<i64> {
        self.ready.is_empty().then_some(self.told)
    }

    /// What comes next; nothing when the stream is to end. May be dropped and asked again.
    pub(crate) async fn next(&mut self) -> Option<Heard> {
        loop {
            if *self.has_ended.borrow() {
                return None;
            }
            if let Some(heard) = self.ready.pop_front() {
                return Some(heard);
            }
            if self.is_behind {
                match self.read_history().await {
                    // Many are behind. Its turn will come.
                    Ok(()) | Err(sqlx::Error::PoolTimedOut) => continue,
                    Err(error) => {
                        tracing::debug!(%error, "a listener cannot be told what it missed; it may come again");
                        return None;
                    }
                }
            }
            let news = tokio::select! {
                _ = self.has_ended.changed() => continue,
                news = self.news.recv() => news,
            };
            match news {
                Ok(News::Passing(passing)) => return Some(Heard::Passing(passing)),
                Ok(News::Message(message)) if message.id == self.told + 1 => {
                    self.told = message.id;
                    return Some(Heard::Message(message));
                }
                Ok(News::Message(message)) => self.is_behind = message.id > self.told,
                Ok(News::Newest(id)) => self.is_behind = id > self.told,
                Ok(News::Anew) | Err(RecvError::Lagged(_)) => self.is_behind = true,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Makes ready some of what is behind the last that was told.
    async fn read_history(&mut self) -> sqlx::Result<()> {
        let Subject { app, topic } = &self.subject;
        let mut conn = self.reads.acquire().await?;
        // Before what is behind it: whatever is removed in between is missed, and counted so.
        let newest = store::topic_messages::newest(&mut conn, *app, topic).await?.unwrap_or_default();
        let found = store::topic_messages::after(&mut conn, *app, topic, self.told).await?;
        drop(conn);
        if newest < self.told {
            self.ready.push_back(Heard::Gap { missed: None, until: newest });
            (self.told, self.is_behind) = (newest, false);
            return Ok(());
        }
        for message in found {
            self.miss_until(message.id - 1);
            self.told = message.id;
            self.ready.push_back(Heard::Message(Arc::new(message)));
        }
        if self.ready.is_empty() {
            self.miss_until(newest);
        }
        self.is_behind = self.told < newest;
        Ok(())
    }

    /// What is up to this id and was not told is not to be had any more.
    fn miss_until(&mut self, id: i64) {
        let missed = u64::try_from(id - self.told).unwrap_or_default();
        if missed > 0 {
            self.ready.push_back(Heard::Gap { missed: Some(missed), until: id });
            self.told = id;
        }
    }
}
