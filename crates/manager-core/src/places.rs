//! Who gets the next of few, such as connections, so that nobody takes all of them from the others.
//!
//! Somebody gets one while they have fewer than are free. Alone they have half of them at most; a second one that wants
//! as many as it can get is given half of the rest, and so on. Who has none gets one as soon as there is any. What
//! somebody has is shared by their parts, such as the apps of an owner: the last that somebody may have is for a part
//! that has none, so that none of them takes all. Of twelve, three owners of one app each that want as many as they can
//! get have five, three and one and leave three to the others, which is enough for calls of a millisecond.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

/// Places to be had: what they are places for is the business of who uses them.
#[derive(Debug)]
pub(crate) struct Places<O: Id, P: Id> {
    all: usize,
    state: Mutex<State<O, P>>,
    /// Told when all have come back after the end.
    whole: Notify,
}

/// What places are counted by.
pub(crate) trait Id: Copy + Eq + Hash {}

impl<T: Copy + Eq + Hash> Id for T {}

#[derive(Debug)]
struct State<O: Id, P: Id> {
    free: usize,
    is_closed: bool,
    /// Of the owners that have any.
    of_owners: HashMap<O, usize>,
    /// The same of their parts.
    of_parts: HashMap<(O, P), usize>,
    /// Those who may have none now, in the order in which they came. Who went away stays until somebody looks.
    waiting: VecDeque<Waiter<O, P>>,
}

#[derive(Debug)]
struct Waiter<O: Id, P: Id> {
    holder: (O, P),
    place: oneshot::Sender<Place<O, P>>,
}

/// Held while what it is for is used; dropped, it is the next one's.
#[derive(Debug)]
pub(crate) struct Place<O: Id, P: Id> {
    holder: (O, P),
    places: Arc<Places<O, P>>,
}

impl<O: Id, P: Id> Places<O, P> {
    pub(crate) fn new(all: usize) -> Self {
        let (of_owners, of_parts, waiting) = (HashMap::new(), HashMap::new(), VecDeque::new());
        let state = State { free: all, is_closed: false, of_owners, of_parts, waiting };
        Self { all, state: Mutex::new(state), whole: Notify::new() }
    }

    /// Waits until this part of what an owner has may have one; none after the end. Who stops waiting loses nothing.
    pub(crate) async fn take(self: &Arc<Self>, owner: O, part: P) -> Option<Place<O, P>> {
        let holder = (owner, part);
        let given = {
            let mut state = self.state();
            if state.is_closed {
                return None;
            }
            // Nobody waits who may have one, so nobody is passed over.
            if state.give(holder) {
                return Some(self.place(holder));
            }
            let (place, given) = oneshot::channel();
            state.waiting.push_back(Waiter { holder, place });
            given
        };
        given.await.ok()
    }

    /// Gives none any more, and waits until all have come back.
    pub(crate) async fn close(&self) {
        let is_whole = {
            let mut state = self.state();
            state.is_closed = true;
            state.waiting.clear();
            state.free == self.all
        };
        if !is_whole {
            self.whole.notified().await;
            // For who waits for the same.
            self.whole.notify_one();
        }
    }

    fn place(self: &Arc<Self>, holder: (O, P)) -> Place<O, P> {
        Place { holder, places: Arc::clone(self) }
    }

    /// Gives what is free to those who may have it. What somebody wanted who went away just now is not to be dropped
    /// while the state is locked.
    fn serve(self: &Arc<Self>, state: &mut State<O, P>) -> Vec<Place<O, P>> {
        let mut unwanted = Vec::new();
        let mut at = 0;
        while state.free > 0
            && let Some(waiter) = state.waiting.get(at)
        {
            let (holder, is_gone) = (waiter.holder, waiter.place.is_closed());
            if !is_gone && !state.give(holder) {
                at += 1;
                continue;
            }
            let waiter = state.waiting.remove(at);
            if let Some(waiter) = waiter.filter(|_| !is_gone) {
                unwanted.extend(waiter.place.send(self.place(holder)).err());
            }
        }
        unwanted
    }

    fn state(&self) -> MutexGuard<'_, State<O, P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<O: Id, P: Id> State<O, P> {
    /// Counts one as this holder's, if they may have one.
    fn give(&mut self, holder: (O, P)) -> bool {
        let of_owner = self.of_owners.get(&holder.0).copied().unwrap_or(0);
        let of_part = self.of_parts.get(&holder).copied().unwrap_or(0);
        // Each that the owner gets is one more of theirs and one fewer that is free.
        let left = self.free.saturating_sub(of_owner).div_ceil(2);
        let may_have = left > 1 || (left == 1 && of_part == 0);
        if may_have {
            self.free -= 1;
            self.of_owners.insert(holder.0, of_owner + 1);
            self.of_parts.insert(holder, of_part + 1);
        }
        may_have
    }

    fn take_back(&mut self, holder: (O, P)) {
        self.free += 1;
        take_one(&mut self.of_owners, &holder.0);
        take_one(&mut self.of_parts, &holder);
    }
}

fn take_one<K: Eq + Hash>(counts: &mut HashMap<K, usize>, of: &K) {
    if let Some(count) = counts.get_mut(of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(of);
        }
    }
}

impl<O: Id, P: Id> Drop for Place<O, P> {
    fn drop(&mut self) {
        let unwanted = {
            let mut state = self.places.state();
            state.take_back(self.holder);
            if state.is_closed && state.free == self.places.all {
                self.places.whole.notify_one();
            }
            self.places.serve(&mut state)
        };
        drop(unwanted);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;
    use shared::id::{AppId, UserId};

    use super::*;

    const ALL: usize = 8;

    type OfApps = Places<UserId, AppId>;

    fn of_apps(all: usize) -> Arc<OfApps> {
        Arc::new(Places::new(all))
    }

    /// One at once, if the app may have it.
    fn take(places: &Arc<OfApps>, (owner, app): (UserId, AppId)) -> Option<Place<UserId, AppId>> {
        places.take(owner, app).now_or_never().flatten()
    }

    /// As many as the app gets at once.
    fn take_all(places: &Arc<OfApps>, app: (UserId, AppId)) -> Vec<Place<UserId, AppId>> {
        std::iter::from_fn(|| take(places, app)).collect()
    }

    /// The only app of somebody.
    fn lone() -> (UserId, AppId) {
        (UserId::new(), AppId::new())
    }

    #[test]
    fn attack_apps_that_take_all_they_can_get_leave_some_to_the_others() {
        let places = of_apps(ALL);
        let greedy: Vec<_> = (0..3).map(|_| take_all(&places, lone())).collect();
        assert_eq!(greedy.iter().map(Vec::len).collect::<Vec<_>>(), [3, 2, 1]);
        for _ in 0..100 {
            assert!(take(&places, lone()).is_some());
        }
        drop(greedy);
        let state = places.state();
        assert!(state.of_owners.is_empty() && state.of_parts.is_empty(), "who has none is forgotten");
        drop(state);
        assert_eq!(take_all(&places, lone()).len(), ALL / 2 - 1);
    }

    #[test]
    fn attack_four_apps_of_one_owner_have_together_what_one_owner_may_have() {
        let (places, owner) = (of_apps(ALL), UserId::new());
        let greedy: Vec<_> = (0..4).map(|_| take_all(&places, (owner, AppId::new()))).collect();
        // The second app finds one, however much the first one wants.
        assert_eq!(greedy.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1, 0, 0]);
        assert_eq!(take_all(&places, lone()).len(), 1, "a stranger has one of the half that is left");
        assert!(take(&places, lone()).is_some());
    }

    #[test]
    fn who_has_none_is_served_before_who_has_some_and_came_first() {
        let places = of_apps(ALL);
        let (ours, theirs) = (lone(), lone());
        let mut held = take_all(&places, ours);
        let others: Vec<_> = (0..ALL - held.len()).map(|_| take(&places, lone()).unwrap()).collect();
        let mut another = pin!(places.take(ours.0, ours.1));
        let mut first = pin!(places.take(theirs.0, theirs.1));
        assert!(another.as_mut().now_or_never().is_none());
        assert!(first.as_mut().now_or_never().is_none());
        held.pop();
        assert!(another.as_mut().now_or_never().is_none(), "it has two, and none is free");
        assert!(first.as_mut().now_or_never().flatten().is_some());
        drop(others);
        assert!(another.as_mut().now_or_never().flatten().is_some());
    }

    #[test]
    fn a_place_of_somebody_who_went_away_is_the_next_ones() {
        let places = of_apps(1);
        let place = take(&places, lone()).unwrap();
        // One leaves before it was given the place, the other after.
        assert!(take(&places, lone()).is_none());
        let (owner, app) = lone();
        let mut second = Box::pin(places.take(owner, app));
        assert!(second.as_mut().now_or_never().is_none());
        drop(place);
        assert!(take(&places, lone()).is_none(), "the second has it");
        drop(second);
        assert!(take(&places, lone()).is_some());
    }

    #[tokio::test]
    async fn the_end_refuses_those_who_wait_and_waits_for_those_who_have_one() {
        let places = of_apps(1);
        let (owner, app) = lone();
        let place = places.take(owner, app).await.unwrap();
        let mut waiting = pin!(places.take(owner, app));
        assert!(waiting.as_mut().now_or_never().is_none());
        let mut closing = pin!(places.close());
        assert!(closing.as_mut().now_or_never().is_none());
        assert!(waiting.await.is_none());
        assert!(places.take(owner, app).await.is_none());
        drop(place);
        closing.await;
        places.close().await;
    }
}
