//! How many messages wait, by app, and how many are on their way, by consumer. Counted in memory and
//! right again when a node takes over: the first is a bound, and the second only says when to look.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shared::id::{AppId, TriggerId};

use crate::events::row::shard_of;

#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    waiting: HashMap<AppId, u64>,
    on_their_way: HashMap<TriggerId, Lane>,
}

/// What one consumer was given. An app is in one shard for ever.
#[derive(Debug)]
struct Lane {
    shard: u8,
    messages: u32,
}

impl Lanes {
    pub(super) fn waiting(&self, app: AppId) -> u64 {
        self.lock().waiting.get(&app).copied().unwrap_or_default()
    }

    pub(super) fn came(&self, app: AppId) {
        *self.lock().waiting.entry(app).or_default() += 1;
    }

    pub(super) fn left(&self, app: AppId, messages: u64) {
        let mut counts = self.lock();
        if let Some(waiting) = counts.waiting.get_mut(&app) {
            *waiting = waiting.saturating_sub(messages);
            if *waiting == 0 {
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
    pub(super) fn set_waiting(&self, waiting: HashMap<AppId, u64>) {
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
        lanes.came(app);
        lanes.set_out(app, consumer, 2);
        lanes.left(app, 5);
        lanes.arrived(consumer);
        assert_eq!((lanes.waiting(app), lanes.on_their_way(consumer)), (0, 1));
        lanes.arrived(consumer);
        lanes.arrived(consumer);
        let counts = lanes.lock();
        assert!(counts.waiting.is_empty() && counts.on_their_way.is_empty());
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
