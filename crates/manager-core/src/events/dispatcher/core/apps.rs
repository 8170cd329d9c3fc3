//! Whose turn it is: owners with rows that are ready take turns, each owner's apps take turns at theirs, and none has more
//! than its share.

use std::collections::{HashMap, VecDeque};

use shared::id::AppId;

use super::shares::{Owner, Owners, Taken};

#[derive(Debug, Default)]
pub(super) struct Apps {
    /// What is ready, of apps that have something.
    queues: HashMap<AppId, VecDeque<i64>>,
    /// Apps that have something ready, by owner, in the order of their turns.
    rings: HashMap<Owner, VecDeque<AppId>>,
    /// Owners that have such apps, in the order of theirs.
    ring: VecDeque<Owner>,
    /// Those that have their share running; their turn comes when something has ended. An owner who is held back keeps
    /// their ring. Each of them runs something, so they are few, however many apps somebody has.
    held_back: Vec<HeldBack>,
    running: Taken,
    /// In all queues.
    ready: usize,
}

#[derive(Debug, Clone, Copy)]
enum HeldBack {
    Owner(Owner),
    App(AppId),
}

impl Apps {
    pub(super) fn set_owners(&mut self, owners: Owners) {
        self.look_again();
        self.running.set_owners(owners);
        let mut rings = std::mem::take(&mut self.rings);
        for owner in std::mem::take(&mut self.ring) {
            for app in rings.remove(&owner).into_iter().flatten() {
                self.line_up(app);
            }
        }
    }

    pub(super) fn push(&mut self, app: AppId, id: i64) {
        let queue = self.queues.entry(app).or_default();
        let is_first = queue.is_empty();
        queue.push_back(id);
        self.ready += 1;
        if is_first {
            self.line_up(app);
        }
    }

    /// Puts an app behind its owner's others, and an owner who has no others behind the other owners.
    fn line_up(&mut self, app: AppId) {
        let owner = self.running.owner(app);
        let apps = self.rings.entry(owner).or_default();
        if apps.is_empty() {
            self.ring.push_back(owner);
        }
        apps.push_back(app);
    }

    /// How many rows of this app are ready, and how many of others.
    pub(super) fn ready(&self, app: AppId) -> (usize, usize) {
        let own = self.queues.get(&app).map_or(0, VecDeque::len);
        (own, self.ready - own)
    }

    /// The next row to be started while so many runs are free, of an app that runs fewer than this.
    ///
    /// An app runs fewer than are free, so that each that comes later finds some; and all apps of an owner together three
    /// quarters at most, and not the last one unless they run nothing.
    pub(super) fn pop(&mut self, free: usize, running_max: usize) -> Option<i64> {
        while free > 0
            && let Some(owner) = self.ring.pop_front()
        {
            if self.running.by(owner) > (free - 1).saturating_mul(3) {
                self.held_back.push(HeldBack::Owner(owner));
                continue;
            }
            let next = self.pop_of(owner, running_max.min(free));
            if next.is_some() {
                self.ready -= 1;
                return next;
            }
        }
        None
    }

    /// The next row of the owner whose turn it is, of an app that runs fewer than this.
    fn pop_of(&mut self, owner: Owner, running_max: usize) -> Option<i64> {
        let apps = self.rings.get_mut(&owner)?;
        let mut next = None;
        while next.is_none()
            && let Some(app) = apps.pop_front()
        {
            if self.running.of_app(app) >= running_max {
                self.held_back.push(HeldBack::App(app));
                continue;
            }
            let Some(queue) = self.queues.get_mut(&app) else { continue };
            next = queue.pop_front();
            if queue.is_empty() {
                self.queues.remove(&app);
            } else {
                apps.push_back(app);
            }
        }
        if apps.is_empty() {
            self.rings.remove(&owner);
        } else {
            self.ring.push_back(owner);
        }
        next
    }

    pub(super) fn started(&mut self, app: AppId) {
        self.running.add(app, 1);
    }

    pub(super) fn finished(&mut self, app: AppId) {
        self.running.remove(app, 1);
        self.look_again();
    }

    /// More runs are free, or somebody has fewer: who was held back has their turn again, in the order in which they were.
    pub(super) fn look_again(&mut self) {
        for held_back in std::mem::take(&mut self.held_back) {
            match held_back {
                HeldBack::Owner(owner) => self.ring.push_back(owner),
                HeldBack::App(app) => self.line_up(app),
            }
        }
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
    fn owners_take_turns_and_each_owners_apps_at_theirs() {
        let (mut apps, owner) = (Apps::default(), UserId::new());
        let all = [AppId::new(), AppId::new(), AppId::new()];
        apps.set_owners(Owners::new([(all[0], owner), (all[1], owner)].into()));
        let app_of = |id: i64| all[usize::try_from(id).unwrap() / 10];
        for id in [0, 1, 10, 11, 20, 21] {
            apps.push(app_of(id), id);
        }
        assert_eq!(start_all(&mut apps, app_of), [0, 20, 10, 21, 1, 11]);
    }

    #[test]
    fn an_app_that_has_its_share_does_not_keep_its_owners_others_waiting() {
        let (mut apps, owner, busy, other) = (Apps::default(), UserId::new(), AppId::new(), AppId::new());
        apps.set_owners(Owners::new([(busy, owner), (other, owner)].into()));
        for id in 0..6 {
            apps.push(busy, id);
        }
        assert_eq!(start_all(&mut apps, |_| busy), [0, 1, 2, 3]);
        apps.push(other, 10);
        assert_eq!(start_all(&mut apps, |_| other), [10]);
    }

    #[test]
    fn who_was_held_back_first_has_the_first_turn() {
        let (mut apps, owner, single) = (Apps::default(), UserId::new(), AppId::new());
        let many: Vec<_> = (0..10).map(|_| AppId::new()).collect();
        apps.set_owners(Owners::new(many.iter().map(|app| (*app, owner)).collect()));
        let app_of = |id: i64| if id < 10 { single } else { many[usize::try_from(id).unwrap() - 10] };
        for id in 0..20 {
            apps.push(app_of(id), id);
        }
        assert_eq!(start_all(&mut apps, app_of), [0, 10, 1, 11, 2, 12, 13], "an app, and then an owner");
        apps.finished(single);
        assert!(start_all(&mut apps, app_of).is_empty(), "two are free, of which neither may have one more");
        apps.finished(many[0]);
        assert_eq!(start_all(&mut apps, app_of), [3, 14]);
    }

    #[test]
    fn apps_that_turn_out_to_be_of_one_owner_lose_no_row_and_have_one_share() {
        let (mut apps, owner, a, b) = (Apps::default(), UserId::new(), AppId::new(), AppId::new());
        let app_of = |id: i64| if id < 10 { a } else { b };
        for id in [0, 1, 2, 3, 10, 11, 12, 13] {
            apps.push(app_of(id), id);
        }
        assert_eq!(start_all(&mut apps, app_of), [0, 10, 1, 11, 2, 12]);
        apps.set_owners(Owners::new([(a, owner), (b, owner)].into()));
        assert!(start_all(&mut apps, app_of).is_empty(), "three quarters run");
        apps.finished(a);
        assert_eq!(start_all(&mut apps, app_of), [3]);
        apps.finished(b);
        assert_eq!(start_all(&mut apps, app_of), [13]);
        assert!(apps.queues.is_empty() && apps.rings.is_empty() && apps.ring.is_empty());
    }

    #[test]
    fn attack_a_thousand_apps_that_wait_are_not_looked_at_after_each_run() {
        let (mut apps, owner, other) = (Apps::default(), UserId::new(), AppId::new());
        let ours: Vec<_> = (0..1_006).map(|_| AppId::new()).collect();
        apps.set_owners(Owners::new(ours.iter().map(|app| (*app, owner)).collect()));
        let app_of = |id: i64| ours.get(usize::try_from(id).unwrap()).copied().unwrap_or(other);
        for id in 0..1_006 {
            apps.push(app_of(id), id);
        }
        assert_eq!(start_all(&mut apps, app_of).len(), 6, "a thousand wait");
        // Whoever is looked at is started or held back.
        let finish = |apps: &mut Apps, app| {
            apps.finished(app);
            let started = start_all(apps, app_of).len();
            (started, started + apps.held_back.len())
        };
        let mut looks = 0;
        for id in 1_006..1_106 {
            apps.push(other, id);
            assert_eq!(start_all(&mut apps, app_of), [id]);
            looks += finish(&mut apps, other).1;
        }
        assert_eq!(looks, 100, "at the owner, once for each run of another that has ended");
        for app in &ours[..100] {
            assert_eq!(finish(&mut apps, *app), (1, 2), "at the next of theirs, and at the owner");
        }
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
