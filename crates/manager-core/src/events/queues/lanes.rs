//! How many messages wait and what they take, by app, and how many are on their way, by consumer. Counted in memory and
//! right again when a node takes over: the first is a bound, and the second only says when to look.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shared::id::{AppId, TriggerId};
use shared::limits::{QUEUE_MESSAGES_MAX, QUEUES_BYTES_MAX};

use crate::events::row::shard_of;
use crate::store::queues::Load;

#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    waiting: HashMap<AppId, Load>,
    on_their_way: HashMap<TriggerId, Lane>,
}

/// What one consumer was given. An app is in one shard for ever.
#[derive(Debug)]
struct Lane {
    shard: u8,
    messages: u32,
}

impl Lanes {
    /// Whether an app may have so much more.
    pub(super) fn has_room(&self, app: AppId, more: Load) -> bool {
        let waiting = self.waiting(app).plus(more);
        waiting.messages <= QUEUE_MESSAGES_MAX && waiting.bytes <= QUEUES_BYTES_MAX
    }

    fn waiting(&self, app: AppId) -> Load {
        self.lock().waiting.get(&app).copied().unwrap_or_default()
    }

    pub(super) fn came(&self, app: AppId, load: Load) {
        let mut counts = self.lock();
        let waiting = counts.waiting.entry(app).or_default();
        *waiting = waiting.plus(load);
    }

    pub(super) fn left(&self, app: AppId, load: Load) {
        let mut counts = self.lock();
        if let Some(waiting) = counts.waiting.get_mut(&app) {
            *waiting = waiting.minus(load);
            if waiting.messages == 0 {
                counts.waiting.remove(&app);
            }
        }
    }

    pub(super) fn on_their_way(&self, consumer: TriggerId) -> u32 {
        self.lock().on_their_way.get(&consumer).map_or(0, |lane| lane.messages)
    }

    pub(super) fn set_out(&self, app: AppId, consumer: TriggerId, messages: u32) {
        let mut counts = self.lock();
        let lane = || Lane { shard: shard_of(app), messages: 0 };
        counts.on_their_way.entry(consumer).or_insert_with(lane).messages += messages;
    }

    pub(super) fn arrived(&self, consumer: TriggerId) {
        self.returned(consumer, 1);
    }

    pub(super) fn returned(&self, consumer: TriggerId, messages: u32) {
        let mut counts = self.lock();
        if let Some(lane) = counts.on_their_way.get_mut(&consumer) {
            lane.messages = lane.messages.saturating_sub(messages);
            if lane.messages == 0 {
                counts.on_their_way.remove(&consumer);
            }
        }
    }

    /// Begins anew with the numbers of the table.
    pub(super) fn set_waiting(&self, waiting: HashMap<AppId, Load>) {
        self.lock().waiting = waiting;
    }

    /// Forgets what was on its way in these shards, which was somebody else's to hear of.
    pub(super) fn forget(&self, shards: &[u8]) {
        self.lock().on_their_way.retain(|_, lane| !shards.contains(&lane.shard));
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_is_forgotten() {
        let (lanes, app, consumer) = (Lanes::default(), AppId::new(), TriggerId::new());
        lanes.came(app, Load::of_one("1", None));
        lanes.set_out(app, consumer, 2);
        lanes.left(app, Load { messages: 5, bytes: 0 });
        lanes.arrived(consumer);
        assert_eq!((lanes.waiting(app), lanes.on_their_way(consumer)), (Load::default(), 1));
        lanes.arrived(consumer);
        lanes.arrived(consumer);
        let counts = lanes.lock();
        assert!(counts.waiting.is_empty() && counts.on_their_way.is_empty());
    }

    #[test]
    fn an_app_has_room_for_as_many_messages_and_bytes_as_the_limits_and_no_more() {
        let (lanes, app) = (Lanes::default(), AppId::new());
        let has_room = |messages, bytes| lanes.has_room(app, Load { messages, bytes });
        assert!(has_room(QUEUE_MESSAGES_MAX, QUEUES_BYTES_MAX));
        assert!(!has_room(QUEUE_MESSAGES_MAX + 1, 0) && !has_room(1, QUEUES_BYTES_MAX + 1));
        lanes.came(app, Load { messages: 2, bytes: 10 });
        assert!(has_room(1, QUEUES_BYTES_MAX - 10) && !has_room(1, QUEUES_BYTES_MAX - 9));
        lanes.left(app, Load::of_one("12345", Some("ada")));
        assert!(has_room(1, QUEUES_BYTES_MAX - 2) && !has_room(1, QUEUES_BYTES_MAX - 1));
        let another = AppId::new();
        assert!(lanes.has_room(another, Load { messages: 1, bytes: QUEUES_BYTES_MAX }), "it has its own");
    }

    #[test]
    fn what_was_on_its_way_in_another_nodes_shard_is_counted_anew() {
        let (lanes, app, consumer) = (Lanes::default(), AppId::new(), TriggerId::new());
        lanes.set_out(app, consumer, 2);
        let other = (shard_of(app) + 1) % crate::events::row::SHARDS;
        lanes.forget(&[other]);
        assert_eq!(lanes.on_their_way(consumer), 2);
        lanes.forget(&[shard_of(app)]);
        assert_eq!(lanes.on_their_way(consumer), 0);
    }
}
