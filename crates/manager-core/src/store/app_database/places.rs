//! Who gets the next connection, so that no app takes all of them from the others.
//!
//! An app gets one while it has fewer than are free. Alone it has half of them at most; a second one that wants as
//! many as it can get is given half of the rest, and so on. Of twelve, three such apps have six, three and two and leave
//! one to the others, which is enough for calls of a millisecond. Who has none gets one as soon as there is any.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::id::AppId;
use tokio::sync::{Notify, oneshot};

/// The connections, as places to be had: which ones they are is the business of who uses them.
#[derive(Debug)]
pub(super) struct Places {
    all: usize,
    state: Mutex<State>,
    /// Told when all have come back after the end.
    whole: Notify,
}

#[derive(Debug)]
struct State {
    free: usize,
    is_closed: bool,
    /// Of the apps that have any.
    held: HashMap<AppId, usize>,
    /// Those who may have none now, in the order in which they came. Who went away stays until somebody looks.
    waiting: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    app: AppId,
    place: oneshot::Sender<Place>,
}

/// Held while a connection is used; dropped, it is the next one's.
#[derive(Debug)]
pub(super) struct Place {
    app: AppId,
    places: Arc<Places>,
}

impl Places {
    pub(super) fn new(all: usize) -> Self {
        let (held, waiting) = (HashMap::new(), VecDeque::new());
        let state = State { free: all, is_closed: false, held, waiting };
        Self { all, state: Mutex::new(state), whole: Notify::new() }
    }

    /// Waits until the app may have one; none after the end. Who stops waiting loses nothing.
    pub(super) async fn take(self: &Arc<Self>, app: AppId) -> Option<Place> {
        let given = {
            let mut state = self.state();
            if state.is_closed {
                return None;
            }
            // Nobody waits who may have one, so nobody is passed over.
            if state.give(app) {
                return Some(self.place(app));
            }
            let (place, given) = oneshot::channel();
            state.waiting.push_back(Waiter { app, place });
            given
        };
        given.await.ok()
    }

    /// Gives none any more, and waits until all have come back.
    pub(super) async fn close(&self) {
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

    fn place(self: &Arc<Self>, app: AppId) -> Place {
        Place { app, places: Arc::clone(self) }
    }

    /// Gives what is free to those who may have it. What somebody wanted who went away just now is not to be dropped
    /// while the state is locked.
    fn serve(self: &Arc<Self>, state: &mut State) -> Vec<Place> {
        let mut unwanted = Vec::new();
        let mut at = 0;
        while state.free > 0
            && let Some(waiter) = state.waiting.get(at)
        {
            let (app, is_gone) = (waiter.app, waiter.place.is_closed());
            if !is_gone && !state.give(app) {
                at += 1;
                continue;
            }
            let waiter = state.waiting.remove(at);
            if let Some(waiter) = waiter.filter(|_| !is_gone) {
                unwanted.extend(waiter.place.send(self.place(app)).err());
            }
        }
        unwanted
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts one as the app's, if it may have one.
    fn give(&mut self, app: AppId) -> bool {
        let held = self.held.get(&app).copied().unwrap_or(0);
        let may_have = held < self.free;
        if may_have {
            self.free -= 1;
            self.held.insert(app, held + 1);
        }
        may_have
    }

    fn take_back(&mut self, app: AppId) {
        self.free += 1;
        if let Some(held) = self.held.get_mut(&app) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&app);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let unwanted = {
            let mut state = self.places.state();
            state.take_back(self.app);
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

    use super::*;

    const ALL: usize = 8;

    /// As many as the app gets at once.
    fn take_all(places: &Arc<Places>, app: AppId) -> Vec<Place> {
        std::iter::from_fn(|| places.take(app).now_or_never().flatten()).collect()
    }

    #[test]
    fn attack_apps_that_take_all_they_can_get_leave_one_to_the_others() {
        let places = Arc::new(Places::new(ALL));
        let greedy: Vec<Vec<Place>> = (0..3).map(|_| take_all(&places, AppId::new())).collect();
        assert_eq!(greedy.iter().map(Vec::len).collect::<Vec<_>>(), [4, 2, 1]);
        for _ in 0..100 {
            assert!(places.take(AppId::new()).now_or_never().flatten().is_some());
        }
        drop(greedy);
        assert!(places.state().held.is_empty(), "who has none is forgotten");
        assert_eq!(take_all(&places, AppId::new()).len(), ALL / 2);
    }

    #[test]
    fn who_has_none_is_served_before_who_has_some_and_came_first() {
        let places = Arc::new(Places::new(ALL));
        let (ours, theirs) = (AppId::new(), AppId::new());
        let mut held = take_all(&places, ours);
        let others: Vec<Place> = (0..ALL - held.len())
            .map(|_| places.take(AppId::new()).now_or_never().flatten().unwrap())
            .collect();
        let mut another = pin!(places.take(ours));
        let mut first = pin!(places.take(theirs));
        assert!(another.as_mut().now_or_never().is_none());
        assert!(first.as_mut().now_or_never().is_none());
        held.pop();
        assert!(another.as_mut().now_or_never().is_none(), "it has three, and none is free");
        assert!(first.as_mut().now_or_never().flatten().is_some());
        drop(others);
        assert!(another.as_mut().now_or_never().flatten().is_some());
    }

    #[test]
    fn a_place_of_somebody_who_went_away_is_the_next_ones() {
        let places = Arc::new(Places::new(1));
        let place = places.take(AppId::new()).now_or_never().flatten().unwrap();
        // One leaves before it was given the place, the other after.
        assert!(places.take(AppId::new()).now_or_never().is_none());
        let mut second = Box::pin(places.take(AppId::new()));
        assert!(second.as_mut().now_or_never().is_none());
        drop(place);
        assert!(places.take(AppId::new()).now_or_never().is_none(), "the second has it");
        drop(second);
        assert!(places.take(AppId::new()).now_or_never().flatten().is_some());
    }

    #[tokio::test]
    async fn the_end_refuses_those_who_wait_and_waits_for_those_who_have_one() {
        let places = Arc::new(Places::new(1));
        let place = places.take(AppId::new()).await.unwrap();
        let mut waiting = pin!(places.take(AppId::new()));
        assert!(waiting.as_mut().now_or_never().is_none());
        let mut closing = pin!(places.close());
        assert!(closing.as_mut().now_or_never().is_none());
        assert!(waiting.await.is_none());
        assert!(places.take(AppId::new()).await.is_none());
        drop(place);
        closing.await;
        places.close().await;
    }
}
