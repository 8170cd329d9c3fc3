//! The bundles that the parent has: those that were used last, and those that jobs have. One copy of each, whoever has
//! it. Pure bookkeeping.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Weak};

use shared::id::UserId;

use super::job::{ImageKey, LoadableImage};

/// Source kept in the parent, so that a new worker or a busy one costs no query.
pub(super) const LIBRARY_BYTES_MAX: usize = 32 << 20;
/// What a bundle counts as at least, so that there are few enough to look through.
const CHARGE_MIN: usize = 8 << 10;
/// Source in the parent, with what jobs have that run or wait: many long scripts at once must not fill its memory.
const HELD_BYTES_MAX: usize = 4 * LIBRARY_BYTES_MAX;

#[derive(Debug)]
struct Held {
    load: Weak<Vec<u8>>,
    /// There while it is on the shelf.
    shelved: Option<Arc<Vec<u8>>>,
    charge: usize,
    /// Whose script had it last, by whose account it is here.
    owner: UserId,
    last_used: u64,
}

/// The most recently used bundles, and the way to those that jobs still have.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// Those that nobody has any more stay until the next one is looked for room.
    held: HashMap<ImageKey, Held>,
    /// What of the shelf is each owner's; of the others nothing is.
    owners: HashMap<UserId, usize>,
    /// What all of the shelf comes to.
    shelved: usize,
    clock: u64,
}

impl Shelf {
    /// A bundle for a script of this owner's. One that only jobs have comes back to the shelf.
    pub(super) fn get(&mut self, key: ImageKey, owner: UserId) -> Option<LoadableImage> {
        self.clock += 1;
        let held = self.held.get_mut(&key)?;
        let load = held.load.upgrade()?;
        held.last_used = self.clock;
        if held.shelved.is_none() || held.owner != owner {
            self.shelve(key, &load, owner);
        }
        Some(LoadableImage { key, load })
    }

    /// Keeps a bundle that was read for this owner. If another owner's read was quicker, theirs is the copy for both.
    pub(super) fn keep(&mut self, image: LoadableImage, owner: UserId) -> LoadableImage {
        if let Some(image) = self.get(image.key, owner) {
            return image;
        }
        let held = Held {
            load: Arc::downgrade(&image.load),
            shelved: None,
            charge: image.load.len().max(CHARGE_MIN),
            owner,
            last_used: self.clock,
        };
        self.held.insert(image.key, held);
        self.shelve(image.key, &image.load, owner);
        image
    }

    /// Whether one more bundle may be read for an owner: while theirs come to less than is left. So whoever has many
    /// leaves something to others, and these to others again.
    pub(super) fn has_room(&mut self, owner: UserId) -> bool {
        self.held.retain(|_, held| held.load.strong_count() > 0);
        let charge = |held: &Held| held.charge;
        let all: usize = self.held.values().map(charge).sum();
        let own: usize = self.held.values().filter(|held| held.owner == owner).map(charge).sum();
        own < HELD_BYTES_MAX.saturating_sub(all)
    }

    fn shelve(&mut self, key: ImageKey, load: &Arc<Vec<u8>>, owner: UserId) {
        self.take_off(key);
        let Some(held) = self.held.get_mut(&key) else { return };
        held.shelved = Some(Arc::clone(load));
        held.owner = owner;
        *self.owners.entry(owner).or_default() += held.charge;
        self.shelved += held.charge;
        while self.shelved > LIBRARY_BYTES_MAX {
            let Some(oldest) = self.oldest() else { return };
            self.take_off(oldest);
        }
    }

    fn take_off(&mut self, key: ImageKey) {
        let Some(held) = self.held.get_mut(&key) else { return };
        if held.shelved.take().is_none() {
            return;
        }
        self.shelved -= held.charge;
        if let Entry::Occupied(mut bytes) = self.owners.entry(held.owner) {
            *bytes.get_mut() -= held.charge;
            if *bytes.get() == 0 {
                bytes.remove();
            }
        }
    }

    /// What has to go first: of whoever has more than half, or else of all, what was used least recently.
    fn oldest(&self) -> Option<ImageKey> {
        let most = self.owners.iter().max_by_key(|(_, bytes)| **bytes);
        let greedy = most.filter(|(_, bytes)| **bytes > LIBRARY_BYTES_MAX / 2).map(|(owner, _)| *owner);
        let shelved = self.held.iter().filter(|(_, held)| held.shelved.is_some());
        let meant = shelved.filter(|(_, held)| greedy.is_none_or(|owner| held.owner == owner));
        meant.min_by_key(|(_, held)| held.last_used).map(|(key, _)| *key)
    }
}

#[cfg(test)]
mod tests {
    use shared::limits::{BUNDLE_BYTES_MAX, ScriptLimits};
    use shared::script::BundleHash;

    use super::*;

    fn key(number: usize) -> ImageKey {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        ImageKey::new(BundleHash(hash), &ScriptLimits::default())
    }

    fn image(number: usize, bytes: usize) -> LoadableImage {
        LoadableImage { key: key(number), load: Arc::new(vec![0; bytes]) }
    }

    #[test]
    fn the_shelf_keeps_what_was_used_last() {
        let (mut shelf, owner) = (Shelf::default(), UserId::new());
        for number in 0..3 {
            shelf.keep(image(number, LIBRARY_BYTES_MAX / 3), owner);
        }
        assert!(shelf.get(key(0), owner).is_some());
        shelf.keep(image(3, LIBRARY_BYTES_MAX / 3), owner);
        assert!(shelf.get(key(0), owner).is_some());
        assert!(shelf.get(key(1), owner).is_none());
    }

    #[test]
    fn attack_an_owner_of_many_long_scripts_evicts_only_their_own() {
        let (mut shelf, modest, greedy) = (Shelf::default(), UserId::new(), UserId::new());
        let half = LIBRARY_BYTES_MAX / 2;
        for number in 0..half / BUNDLE_BYTES_MAX {
            shelf.keep(image(number, BUNDLE_BYTES_MAX), modest);
        }
        for round in 0..3 {
            for number in 100..109 {
                if shelf.get(key(number), greedy).is_none() {
                    shelf.keep(image(number, BUNDLE_BYTES_MAX), greedy);
                }
            }
            assert!(shelf.shelved <= LIBRARY_BYTES_MAX, "{round}");
        }
        for number in 0..half / BUNDLE_BYTES_MAX {
            assert!(shelf.get(key(number), modest).is_some(), "{number}");
        }
    }

    #[test]
    fn an_owner_who_is_alone_has_the_whole_shelf_and_makes_room_for_another() {
        let (mut shelf, first, second) = (Shelf::default(), UserId::new(), UserId::new());
        let all = LIBRARY_BYTES_MAX / BUNDLE_BYTES_MAX;
        for number in 0..all {
            shelf.keep(image(number, BUNDLE_BYTES_MAX), first);
        }
        assert!((0..all).all(|number| shelf.get(key(number), first).is_some()));
        shelf.keep(image(100, BUNDLE_BYTES_MAX), second);
        assert!(shelf.get(key(100), second).is_some());
        assert!(shelf.get(key(0), first).is_none());
        assert!(shelf.get(key(1), first).is_some());
    }

    #[test]
    fn what_a_job_has_is_not_read_again_and_what_nobody_has_is_gone() {
        let (mut shelf, owner) = (Shelf::default(), UserId::new());
        let job = shelf.keep(image(0, BUNDLE_BYTES_MAX), owner);
        for number in 1..=LIBRARY_BYTES_MAX / BUNDLE_BYTES_MAX {
            shelf.keep(image(number, BUNDLE_BYTES_MAX), owner);
        }
        assert!(shelf.held[&key(0)].shelved.is_none(), "there was no room for it");
        let again = shelf.get(key(0), owner).unwrap();
        assert!(Arc::ptr_eq(&job.load, &again.load));
        assert!(shelf.get(key(1), owner).is_none(), "it took that one's place on the shelf");
        let other = shelf.keep(image(0, BUNDLE_BYTES_MAX), UserId::new());
        assert!(Arc::ptr_eq(&job.load, &other.load), "two reads of two owners end in one copy");
    }

    #[test]
    fn attack_many_tiny_scripts_are_few_enough_to_look_through() {
        let (mut shelf, owner) = (Shelf::default(), UserId::new());
        for number in 0..LIBRARY_BYTES_MAX / CHARGE_MIN + 500 {
            shelf.keep(image(number, 1), owner);
            if number % 1_000 == 0 {
                assert!(shelf.has_room(owner));
            }
        }
        let on_shelf = shelf.held.values().filter(|held| held.shelved.is_some()).count();
        assert_eq!(on_shelf, LIBRARY_BYTES_MAX / CHARGE_MIN);
        shelf.has_room(owner);
        assert_eq!(shelf.held.len(), on_shelf);
    }

    #[test]
    fn attack_jobs_with_many_long_scripts_do_not_fill_the_parents_memory() {
        let (mut shelf, greedy, second, third) =
            (Shelf::default(), UserId::new(), UserId::new(), UserId::new());
        let mut jobs = Vec::new();
        let mut fill = |shelf: &mut Shelf, owner| {
            let before = jobs.len();
            while shelf.has_room(owner) {
                let number = jobs.len();
                jobs.push(shelf.keep(image(number, BUNDLE_BYTES_MAX), owner));
            }
            (jobs.len() - before) * BUNDLE_BYTES_MAX
        };
        assert_eq!(fill(&mut shelf, greedy), HELD_BYTES_MAX / 2);
        assert_eq!(fill(&mut shelf, second), HELD_BYTES_MAX / 4);
        assert!(shelf.has_room(third));
        jobs.clear();
        assert!(shelf.has_room(greedy), "what jobs have left is free again");
        assert!(shelf.held.len() <= LIBRARY_BYTES_MAX / BUNDLE_BYTES_MAX);
    }

    #[test]
    fn the_account_of_the_shelf_is_exact() {
        let mut shelf = Shelf::default();
        let owners = [(); 3].map(|()| UserId::new());
        for number in 0..200 {
            let (which, owner) = (number * 7 % 40, owners[number % 3]);
            if shelf.get(key(which), owner).is_none() {
                shelf.keep(image(which, (which + 1) << 17), owner);
            }
            let on_shelf = || shelf.held.values().filter(|held| held.shelved.is_some());
            assert_eq!(shelf.shelved, on_shelf().map(|held| held.charge).sum::<usize>(), "{number}");
            for owner in owners {
                let own: usize = on_shelf().filter(|held| held.owner == owner).map(|held| held.charge).sum();
                assert_eq!(shelf.owners.get(&owner).copied().unwrap_or(0), own, "{number}");
            }
        }
    }
}
