//! How much an app may have of what is bounded, and its owner with all their apps: what runs for minutes would
//! otherwise keep everybody else's events waiting as long.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use shared::id::{AppId, UserId};

/// Whose apps are. One that is not known yet counts as nobody else's.
#[derive(Debug, Clone, Default)]
pub(super) struct Owners(Arc<HashMap<AppId, UserId>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    Person(UserId),
    Unknown(AppId),
}

impl Owners {
    pub(super) fn new(known: HashMap<AppId, UserId>) -> Self {
        Self(Arc::new(known))
    }

    pub(super) fn of(&self, app: AppId) -> Owner {
        self.0.get(&app).map_or(Owner::Unknown(app), |person| Owner::Person(*person))
    }
}

/// What is taken of something, and by whom.
#[derive(Debug, Default)]
pub(super) struct Taken {
    owners: Owners,
    all: usize,
    /// Only of those who have some.
    by_app: HashMap<AppId, usize>,
    by_owner: HashMap<Owner, usize>,
}

impl Taken {
    pub(super) fn set_owners(&mut self, owners: Owners) {
        self.owners = owners;
        self.by_owner.clear();
        for (app, amount) in &self.by_app {
            *self.by_owner.entry(self.owners.of(*app)).or_default() += amount;
        }
    }

    pub(super) fn add(&mut self, app: AppId, amount: usize) {
        self.all += amount;
        *self.by_app.entry(app).or_default() += amount;
        *self.by_owner.entry(self.owners.of(app)).or_default() += amount;
    }

    pub(super) fn remove(&mut self, app: AppId, amount: usize) {
        self.all = self.all.saturating_sub(amount);
        take(&mut self.by_app, app, amount);
        take(&mut self.by_owner, self.owners.of(app), amount);
    }

    pub(super) const fn all(&self) -> usize {
        self.all
    }

    pub(super) fn apps(&self) -> impl Iterator<Item = AppId> {
        self.by_app.keys().copied()
    }

    pub(super) fn of_app(&self, app: AppId) -> usize {
        self.by_app.get(&app).copied().unwrap_or(0)
    }

    pub(super) fn owner(&self, app: AppId) -> Owner {
        self.owners.of(app)
    }

    /// What somebody has with all their apps.
    pub(super) fn by(&self, owner: Owner) -> usize {
        self.by_owner.get(&owner).copied().unwrap_or(0)
    }

    /// What the owner of this app has with all their apps.
    pub(super) fn of_owner(&self, app: AppId) -> usize {
        self.by(self.owner(app))
    }

    /// Whether an app may have so much more, where there is so much in all.
    ///
    /// An owner has no more than is left then, and an app no more than its owner may still have then: so there is always
    /// some left for who comes next. Somebody's only app has a quarter of all, and the second one half of that.
    pub(super) fn has_share(&self, max: usize, app: AppId, more: usize) -> bool {
        // Each that the app gets is one more of its own, which counts twice, one more of its owner's, and one less.
        4 * more + 2 * self.of_app(app) + self.of_owner(app) <= max.saturating_sub(self.all)
    }

    /// What an app may have by that, with what it has.
    pub(super) fn share(&self, max: usize, app: AppId) -> usize {
        let left = max.saturating_sub(self.all);
        (left + 2 * self.of_app(app)).saturating_sub(self.of_owner(app)) / 4
    }
}

fn take<K: Eq + Hash>(amounts: &mut HashMap<K, usize>, of: K, amount: usize) {
    if let Some(left) = amounts.get_mut(&of) {
        *left = left.saturating_sub(amount);
        if *left == 0 {
            amounts.remove(&of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: usize = 64;

    /// As much as an app gets, one at a time.
    fn take_all(taken: &mut Taken, app: AppId) -> usize {
        while taken.has_share(ALL, app, 1) {
            taken.add(app, 1);
        }
        taken.of_app(app)
    }

    #[test]
    fn attack_apps_that_take_all_they_can_get_leave_some_to_the_others() {
        let (owner, ours) = (UserId::new(), [AppId::new(), AppId::new(), AppId::new()]);
        let mut taken = Taken::default();
        taken.set_owners(Owners::new(ours.iter().map(|app| (*app, owner)).collect()));
        assert_eq!(ours.map(|app| take_all(&mut taken, app)), [16, 8, 4]);
        assert_eq!(taken.share(ALL, ours[0]), 10, "it has more, because the others came later");
        let theirs = AppId::new();
        assert_eq!(take_all(&mut taken, theirs), 9, "a quarter of what is left");
        for app in ours {
            taken.remove(app, taken.of_app(app));
        }
        taken.remove(theirs, 9);
        assert_eq!((taken.all(), taken.of_owner(ours[0]), taken.apps().count()), (0, 0, 0));
    }

    #[test]
    fn an_app_that_gets_another_owner_takes_along_what_it_has() {
        let (app, other, owner) = (AppId::new(), AppId::new(), UserId::new());
        let mut taken = Taken::default();
        taken.add(app, 5);
        taken.set_owners(Owners::new([(app, owner), (other, owner)].into()));
        assert_eq!((taken.of_owner(other), taken.of_app(other)), (5, 0));
        taken.remove(app, 5);
        assert_eq!(taken.of_owner(other), 0);
    }
}
