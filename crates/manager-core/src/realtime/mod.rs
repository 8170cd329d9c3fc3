//! Telling somebody outside what is published on an app's topics.
//!
//! What is published is written into the topic's history in the transaction that publishes it
//! (`store::topic_messages`). After the commit the [`Hub`] of each node reads what is new, once for
//! all who listen there, and hands it to their [`Listener`]s. Whoever lags behind reads from the history
//! by themselves, and is told what is not there any more.

mod hub;
mod listener;
mod neighbours;
mod places;
mod reads;

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::id::AppId;
use shared::name::TopicName;
use shared::topic::TopicAuth;
use uuid::Uuid;

pub(crate) use self::hub::{Full, Hub, Published};
pub(crate) use self::listener::{Heard, Listener};

/// Half of a time to all of it: what begins together is not to go on together.
pub(crate) fn spread(every: Duration) -> Duration {
    let [chance, ..] = *Uuid::new_v4().as_bytes();
    every.mul_f32(0.5 + f32::from(chance) / 510.0)
}

/// A topic of an app.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Subject {
    pub(crate) app: AppId,
    pub(crate) topic: TopicName,
}

/// A message that is told once to who listens now, and is kept nowhere.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passing {
    /// JSON text.
    pub(crate) message: String,
    pub(crate) published_at: DateTime<Utc>,
}

/// The topics to which somebody outside may listen, and what they need for it. Asked at each message that is
/// published, so it is in memory.
#[derive(Debug, Default)]
pub(crate) struct ExternalTopics(HashMap<AppId, HashMap<TopicName, TopicAuth>>);

impl ExternalTopics {
    pub(crate) fn external(&self, app: AppId, topic: &TopicName) -> Option<TopicAuth> {
        self.0.get(&app)?.get(topic).copied()
    }
}

impl FromIterator<(AppId, TopicName, TopicAuth)> for ExternalTopics {
    fn from_iter<I: IntoIterator<Item = (AppId, TopicName, TopicAuth)>>(topics: I) -> Self {
        let mut all = Self::default();
        for (app, topic, mode) in topics {
            all.0.entry(app).or_default().insert(topic, mode);
        }
        all
    }
}
