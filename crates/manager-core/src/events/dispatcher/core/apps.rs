//! Whose turn it is: apps with rows that are ready take turns, and none has more than its share.

use std::collections::{HashMap, VecDeque};

use shared::id::AppId;

#[derive(Debug, Default)]
struct Queue {
    ready: VecDeque<i64>,
    running: usize,
    is_in_ring: bool,
}

#[derive(Debug, Default)]
pub(super) struct Apps {
    queues: HashMap<AppId, Queue>,
    /// Apps that have something ready, in the order of their turns. One that has its share running is
    /// not in it.
    ring: VecDeque<AppId>,
    /// In all queues.
    ready: usize,
}

impl Apps {
    pub(super) fn push(&mut self, app: AppId, id: i64) {
        let queue = self.queues.entry(app).or_default();
        queue.ready.push_back(id);
        self.ready += 1;
        if !std::mem::replace(&mut queue.is_in_ring, true) {
            self.ring.push_back(app);
        }
    }

    /// How many rows of this app are ready, and how many of others.
    pub(super) fn ready(&self, app: AppId) -> (usize, usize) {
        let own = self.queues.get(&app).map_or(0, |queue| queue.ready.len());
        (own, self.ready - own)
    }

    /// The next row to be started, of an app that runs fewer than this.
    pub(super) fn pop(&mut self, running_max: usize) -> Option<i64> {
        while let Some(app) = self.ring.pop_front() {
            let Some(queue) = self.queues.get_mut(&app) else { continue };
            queue.is_in_ring = false;
            if queue.running >= running_max {
                continue;
            }
            let next = queue.ready.pop_front();
            if !queue.ready.is_empty() {
                queue.is_in_ring = true;
                self.ring.push_back(app);
            }
            if next.is_some() {
                self.ready -= 1;
                return next;
            }
            self.tidy(app);
        }
        None
    }

    pub(super) fn started(&mut self, app: AppId) {
        self.queues.entry(app).or_default().running += 1;
    }

    pub(super) fn finished(&mut self, app: AppId) {
        if let Some(queue) = self.queues.get_mut(&app) {
            queue.running = queue.running.saturating_sub(1);
            if !queue.ready.is_empty() && !std::mem::replace(&mut queue.is_in_ring, true) {
                self.ring.push_back(app);
            }
        }
        self.tidy(app);
    }

    fn tidy(&mut self, app: AppId) {
        if self.queues.get(&app).is_some_and(|queue| queue.running == 0 && queue.ready.is_empty()) {
            self.queues.remove(&app);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_take_turns_and_none_has_more_than_its_share() {
        let (mut apps, a, b) = (Apps::default(), AppId::new(), AppId::new());
        for id in 0..4 {
            apps.push(a, id);
        }
        apps.push(b, 10);
        let mut started = Vec::new();
        while let Some(id) = apps.pop(2) {
            apps.started(if id < 10 { a } else { b });
            started.push(id);
        }
        assert_eq!(started, [0, 10, 1], "two of a at most, and b in its turn");
        apps.finished(a);
        assert_eq!(apps.pop(2), Some(2));
        assert_eq!((apps.ready(a), apps.ready(b)), ((1, 0), (0, 1)));
    }
}
