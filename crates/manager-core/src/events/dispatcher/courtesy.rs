//! Gives way to what comes in: while an event of an app that has few waiting is written down, nothing of another
//! app's backlog is started. It makes a backlog a little slower, and its neighbours' events faster.

use std::time::Duration;

use shared::id::AppId;
use tokio::time::{Instant, timeout_at};

use crate::events::arrivals::Arrivals;

/// As long as a commit takes on a common disk. Whatever is slower does not stop the others.
const WAIT_MAX: Duration = Duration::from_millis(2);
/// After each wait, so many times its length without one: a backlog keeps four fifths of the time.
const REST: u32 = 4;

#[derive(Debug)]
pub(super) struct Courtesy {
    arrivals: Arrivals,
    not_before: Instant,
}

impl Courtesy {
    pub(super) fn new(arrivals: Arrivals) -> Self {
        Self { arrivals, not_before: Instant::now() }
    }

    /// Waits for those who go first; answers whether it did.
    pub(super) async fn give_way(&mut self, goes_first: impl Fn(AppId) -> bool) -> bool {
        let somebody_does = || self.arrivals.any(|app| goes_first(*app));
        let began = Instant::now();
        if began < self.not_before || !somebody_does() {
            return false;
        }
        let arrived = async {
            while somebody_does() {
                self.arrivals.fewer().await;
            }
        };
        // Whether they have arrived or it took too long, the backlog goes on.
        let _ = timeout_at(began + WAIT_MAX, arrived).await;
        self.not_before = Instant::now() + began.elapsed() * REST;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_backlog_gives_way_to_another_apps_event_until_it_has_come() {
        let (busy, quiet, arrivals) = (AppId::new(), AppId::new(), Arrivals::default());
        let mut courtesy = Courtesy::new(arrivals.clone());
        assert!(!courtesy.give_way(|_| true).await, "nobody comes");
        let _own = arrivals.announce([busy].into_iter());
        assert!(!courtesy.give_way(|app| app != busy).await, "who has a backlog waits in it");
        let arrival = arrivals.announce([quiet, busy].into_iter());
        let (waited, ()) = tokio::join!(courtesy.give_way(|app| app != busy), async { drop(arrival) });
        assert!(waited);
        assert!(!arrivals.any(|app| *app == quiet), "it has come");
        assert!(arrivals.any(|app| *app == busy), "the other has not");
    }

    #[tokio::test]
    async fn a_backlog_goes_on_beside_events_that_never_come() {
        let arrivals = Arrivals::default();
        let mut courtesy = Courtesy::new(arrivals.clone());
        let _arrival = arrivals.announce([AppId::new()].into_iter());
        let began = Instant::now();
        assert!(courtesy.give_way(|_| true).await);
        let waited = began.elapsed();
        assert!(waited >= WAIT_MAX);
        assert!(courtesy.not_before >= began + waited * REST, "and has its rest");
        courtesy.not_before = Instant::now() + Duration::from_secs(60);
        assert!(!courtesy.give_way(|_| true).await);
    }
}
