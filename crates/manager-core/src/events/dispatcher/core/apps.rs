//! Whose turn it is: apps with rows that are ready take turns, and none has more than its share.

use std::collections::{HashMap, VecDeque};

use shared::id::AppId;

use super::shares::{Owners, Taken};

#[derive(Debug, Default)]
struct Queue {
    ready: VecDeque<i64>,
    /// In the ring, or held back from it.
    is_in_ring: bool,
}

#[derive(Debug, Default)]
pub(super) struct Apps {
    /// Of apps that have something ready.
    queues: HashMap<AppId, Queue>,
    /// Apps that have something ready, in the order of their turns.
    ring: VecDeque<AppId>,
    /// Those that have their share running; their turn comes when something has ended.
    held_back: Vec<AppId>,
    running: Taken,
    /// In all queues.
    ready: usize,
}

impl Apps {
    pub(super) fn set_owners(&mut self, owners: Owners) {
        self.running.set_owners(owners);
        self.ring.extend(self.held_back.drain(..));
    }

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

    /// The next row to be started while so many runs are free, of an app that runs fewer than this.
    pub(super) fn pop(&mut self, free: usize, running_max: usize) -> Option<i64> {
        while free > 0
            && let Some(app) = self.ring.pop_front()
        {
            if !self.has_share(app, free, running_max) {
                self.held_back.push(app);
                continue;
            }
            let Some(queue) = self.queues.get_mut(&app) else { continue };
            let next = queue.ready.pop_front();
            if queue.ready.is_empty() {
                self.queues.remove(&app);
            } else {
                self.ring.push_back(app);
            }
            if next.is_some() {
                self.ready -= 1;
                return next;
            }
        }
        None
    }

    /// An app runs fewer than are free, so that each that comes later finds some; and all apps of an owner together three
    /// quarters at most, and not the last one unless they run nothing.
    fn has_share(&self, app: AppId, free: usize, running_max: usize) -> bool {
        let of_app = self.running.of_app(app);
        let of_owner_max = (free - 1).saturating_mul(3);
        of_app < running_max.min(free) && self.running.of_owner(app) <= of_owner_max
    }

    pub(super) fn started(&mut self, app: AppId) {
        self.running.add(app, 1);
    }

    pub(super) fn finished(&mut self, app: AppId) {
        self.running.remove(app, 1);
        self.ring.extend(self.held_back.drain(..));
    }
}

#[cfg(test)]
mod tests {
    use shared::id::UserId;

    use super::*;

    const RUNS: usize = 8;

    /// Starts what may be started.
    fn start_all(apps: &mut Apps, app_of: impl Fn(i64) -> AppId) -> Vec<i64> {
        let mut started = Vec::new();
        while let Some(id) = apps.pop(RUNS - apps.running.all(), RUNS / 2) {
            apps.started(app_of(id));
            started.push(id);
        }
        started
    }

    #[test]
    fn apps_take_turns_and_none_has_more_than_its_share() {
        let (mut apps, a, b) = (Apps::default(), AppId::new(), AppId::new());
        for id in 0..6 {
            apps.push(a, id);
        }
        apps.push(b, 10);
        let started = start_all(&mut apps, |id| if id < 10 { a } else { b });
        assert_eq!(started, [0, 10, 1, 2, 3], "four of a at most, and b in its turn");
        apps.finished(a);
        assert_eq!(apps.pop(RUNS - apps.running.all(), RUNS / 2), Some(4));
        assert_eq!((apps.ready(a), apps.ready(b)), ((1, 0), (0, 1)));
    }

    #[test]
    fn attack_many_apps_that_run_for_long_leave_runs_to_the_others() {
        let (mut apps, owner) = (Apps::default(), UserId::new());
        let ours: Vec<_> = (0..20).map(|_| AppId::new()).collect();
        apps.set_owners(Owners::new(ours.iter().map(|app| (*app, owner)).collect()));
        let app_of = |id: i64| ours[usize::try_from(id).unwrap() % ours.len()];
        for id in 0..100 {
            apps.push(app_of(id), id);
        }
        assert_eq!(start_all(&mut apps, app_of).len(), 6, "one owner has three quarters");
        let theirs = AppId::new();
        apps.push(theirs, 100);
        assert_eq!(start_all(&mut apps, |_| theirs), [100]);
        apps.finished(theirs);
        apps.finished(ours[0]);
        assert_eq!(start_all(&mut apps, app_of).len(), 1, "what has ended is followed by the next");
    }

    #[test]
    fn attack_two_apps_of_different_people_leave_runs_to_a_third() {
        let (mut apps, all) = (Apps::default(), [AppId::new(), AppId::new(), AppId::new()]);
        let app_of = |id: i64| all[usize::try_from(id).unwrap() / 10];
        for id in 0..20 {
            apps.push(app_of(id), id);
        }
        assert!(start_all(&mut apps, app_of).len() < RUNS);
        apps.push(all[2], 20);
        assert_eq!(start_all(&mut apps, app_of), [20]);
    }

    #[test]
    fn where_only_one_may_run_it_does() {
        let (mut apps, a) = (Apps::default(), AppId::new());
        apps.push(a, 1);
        assert_eq!(apps.pop(0, 1), None);
        assert_eq!(apps.pop(1, 1), Some(1));
    }
}
