//! What a change leaves to be told when it is committed: events to the dispatcher, messages to who feeds the
//! consumers of queues, and messages to who listens to topics from outside.

use crate::events::Pending;
use crate::events::queues::Sent;
use crate::realtime::Published;

/// Events and messages that are written and not committed yet.
#[must_use = "events that are not handed over are found only later"]
#[derive(Debug, Default)]
pub(crate) struct Told {
    events: Option<Pending>,
    messages: Vec<Sent>,
    published: Vec<Published>,
}

impl Told {
    /// Adds events that were written in the same transaction.
    pub(super) fn add(&mut self, pending: Pending) {
        match &mut self.events {
            Some(events) => events.join(pending),
            None => self.events = Some(pending),
        }
    }

    /// The same with a message.
    pub(super) fn add_message(&mut self, sent: Sent) {
        self.messages.push(sent);
    }

    /// The same with a message in the history of a topic.
    pub(super) fn add_published(&mut self, published: Published) {
        self.published.push(published);
    }

    /// Lets the events run. Only after the commit.
    pub(crate) fn hand_over(self) {
        self.events.into_iter().for_each(Pending::hand_over);
        for message in self.messages {
            message.tell();
        }
        self.published.into_iter().for_each(Published::tell);
    }

    /// Lets them be, because they are taken back; answers how many events there were.
    pub(super) fn forget(self) -> usize {
        self.messages.into_iter().for_each(Sent::forget);
        self.events.map_or(0, Pending::forget)
    }
}

impl From<Pending> for Told {
    fn from(pending: Pending) -> Self {
        Self { events: Some(pending), messages: Vec::new(), published: Vec::new() }
    }
}
