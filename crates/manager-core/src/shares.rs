//! How much of something each app may have under way, and begin in a minute, and the apps of an owner together, so that
//! nobody takes a line to the world for themselves.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::id::{AppId, UserId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::places::{Place, Places};

const MINUTE: Duration = Duration::from_secs(60);
/// How long one waits for others of its app and its owner to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Apps, and owners, that are remembered; those with nothing under way are forgotten beyond.
const REMEMBERED_MAX: usize = 10_000;
/// What an owner's apps have together, in shares of one app: who has two apps is not held back for the one by the other,
/// and who makes more of them gets no more.
const SHARES_OF_OWNER: u16 = 2;

/// There is no more for an app, or for its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exhausted {
    /// Of what is under way.
    AtOnce,
    /// Of what begins in a minute.
    PerMinute,
}

#[derive(Debug)]
pub(crate) struct Shares {
    patience: Duration,
    apps: Counts<AppId>,
    owners: Counts<UserId>,
    /// What all have under way together, where there is an end to it.
    all: Option<Arc<Places<UserId, AppId>>>,
}

/// How much each of them has.
#[derive(Debug)]
struct Counts<K> {
    at_once: usize,
    per_minute: u32,
    counts: Mutex<HashMap<K, Count>>,
}

#[derive(Debug)]
struct Count {
    running: Arc<Semaphore>,
    since: Instant,
    made: u32,
}

/// Held while something is under way.
#[derive(Debug)]
#[expect(dead_code, reason = "lets go when it is dropped")]
pub(crate) struct Pass([OwnedSemaphorePermit; 2], Option<Place<UserId, AppId>>);

impl Shares {
    /// With so much for each app.
    pub(crate) fn new(at_once: usize, per_minute: u32) -> Self {
        let all = SHARES_OF_OWNER;
        Self {
            patience: PATIENCE,
            apps: Counts::new(at_once, per_minute),
            owners: Counts::new(at_once * usize::from(all), per_minute * u32::from(all)),
            all: None,
        }
    }

    /// With so many under way of all, of which an owner gets one more while they have fewer than are free.
    pub(crate) fn within(self, at_once: usize) -> Self {
        Self { all: Some(Arc::new(Places::new(at_once))), ..self }
    }

    pub(crate) async fn pass(&self, owner: UserId, app: AppId) -> Result<Pass, Exhausted> {
        // The app first: what it may not do is not counted as its owner's.
        let of_app = self.apps.count(app)?;
        let of_owner = self.owners.count(owner)?;
        let waiting = async {
            // Neither is ever closed.
            let running = [of_app.acquire_owned().await.ok()?, of_owner.acquire_owned().await.ok()?];
            let place = match &self.all {
                Some(places) => Some(places.take(owner, app).await?),
                None => None,
            };
            Some(Pass(running, place))
        };
        let waited = tokio::time::timeout(self.patience, waiting).await;
        waited.ok().flatten().ok_or(Exhausted::AtOnce)
    }
}

impl<K: Eq + Hash> Counts<K> {
    fn new(at_once: usize, per_minute: u32) -> Self {
        Self { at_once, per_minute, counts: Mutex::default() }
    }

    /// Counts one that begins; answers what says how many are under way.
    fn count(&self, key: K) -> Result<Arc<Semaphore>, Exhausted> {
        let now = Instant::now();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= REMEMBERED_MAX {
            counts.retain(|_, count| {
                count.running.available_permits() < self.at_once || now - count.since < MINUTE
            });
        }
        let count = counts.entry(key).or_insert_with(|| Count {
            running: Arc::new(Semaphore::new(self.at_once)),
            since: now,
            made: 0,
        });
        if now - count.since >= MINUTE {
            (count.since, count.made) = (now, 0);
        }
        if count.made >= self.per_minute {
            return Err(Exhausted::PerMinute);
        }
        count.made += 1;
        Ok(Arc::clone(&count.running))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: usize = 8;
    const PER_MINUTE: u32 = 600;

    fn impatient() -> Shares {
        Shares { patience: Duration::from_millis(10), ..Shares::new(AT_ONCE, PER_MINUTE) }
    }

    /// As many as an app gets at once.
    async fn all_at_once(shares: &Shares, owner: UserId, app: AppId) -> Vec<Pass> {
        let mut passes = Vec::new();
        loop {
            match shares.pass(owner, app).await {
                Ok(pass) => passes.push(pass),
                Err(refused) => {
                    assert_eq!(refused, Exhausted::AtOnce);
                    return passes;
                }
            }
        }
    }

    /// How many an app may begin one after the other.
    async fn all_in_turn(shares: &Shares, owner: UserId, app: AppId) -> u32 {
        let mut made = 0;
        loop {
            match shares.pass(owner, app).await {
                Ok(_) => made += 1,
                Err(refused) => {
                    assert_eq!(refused, Exhausted::PerMinute);
                    return made;
                }
            }
        }
    }

    #[tokio::test]
    async fn attack_a_flood_waits_and_is_then_refused() {
        let shares = impatient();
        let (owner, app) = (UserId::new(), AppId::new());
        let mut passes = all_at_once(&shares, owner, app).await;
        assert_eq!(passes.len(), AT_ONCE);
        assert!(shares.pass(UserId::new(), AppId::new()).await.is_ok(), "another app has its own share");
        passes.pop();
        assert!(shares.pass(owner, app).await.is_ok());
        drop(passes);
        let made = all_in_turn(&shares, owner, app).await;
        // Besides those before, of which one was refused.
        assert_eq!(made + u32::try_from(AT_ONCE).unwrap() + 2, PER_MINUTE);
    }

    #[tokio::test]
    async fn attack_ten_apps_of_one_owner_have_what_two_have() {
        let (shares, owner) = (impatient(), UserId::new());
        let mut passes = Vec::new();
        for _ in 0..10 {
            passes.extend(all_at_once(&shares, owner, AppId::new()).await);
        }
        assert_eq!(passes.len(), 2 * AT_ONCE);
        assert!(shares.pass(UserId::new(), AppId::new()).await.is_ok(), "another owner has their own share");
        let (shares, owner) = (impatient(), UserId::new());
        let mut made = 0;
        for _ in 0..10 {
            made += all_in_turn(&shares, owner, AppId::new()).await;
        }
        assert_eq!(made, 2 * PER_MINUTE);
    }

    #[tokio::test]
    async fn attack_owners_who_have_all_they_can_get_leave_some_of_what_there_is_for_all() {
        let shares = impatient().within(2 * AT_ONCE);
        let mut held = Vec::new();
        for _ in 0..3 {
            let owner = UserId::new();
            held.push([
                all_at_once(&shares, owner, AppId::new()).await,
                all_at_once(&shares, owner, AppId::new()).await,
            ]);
        }
        let counts: Vec<_> = held.iter().map(|[first, second]| (first.len(), second.len())).collect();
        assert_eq!(counts, [(7, 1), (3, 1), (1, 1)]);
        assert!(shares.pass(UserId::new(), AppId::new()).await.is_ok());
    }
}
