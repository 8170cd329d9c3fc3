//! How much of something each app may have under way, and begin in a minute, so that none takes a line to the
//! world for itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::id::AppId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const MINUTE: Duration = Duration::from_secs(60);
/// How long one waits for others of its app to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Apps that are remembered; those with nothing under way are forgotten beyond.
const APPS_MAX: usize = 10_000;

/// An app has its share already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exhausted {
    /// Of what is under way.
    AtOnce,
    /// Of what begins in a minute.
    PerMinute,
}

#[derive(Debug)]
pub(crate) struct Shares {
    at_once: usize,
    per_minute: u32,
    patience: Duration,
    apps: Mutex<HashMap<AppId, App>>,
}

#[derive(Debug)]
struct App {
    running: Arc<Semaphore>,
    since: Instant,
    made: u32,
}

/// Held while something is under way.
#[derive(Debug)]
pub(crate) struct Pass(#[expect(dead_code, reason = "lets go when it is dropped")] OwnedSemaphorePermit);

impl Shares {
    pub(crate) fn new(at_once: usize, per_minute: u32) -> Self {
        Self { at_once, per_minute, patience: PATIENCE, apps: Mutex::default() }
    }

    pub(crate) async fn pass(&self, app: AppId) -> Result<Pass, Exhausted> {
        let running = self.count(app)?;
        let waited = tokio::time::timeout(self.patience, running.acquire_owned()).await;
        match waited {
            Ok(Ok(permit)) => Ok(Pass(permit)),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(Exhausted::AtOnce),
        }
    }

    fn count(&self, app: AppId) -> Result<Arc<Semaphore>, Exhausted> {
        let now = Instant::now();
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        if apps.len() >= APPS_MAX {
            apps.retain(|_, app| app.running.available_permits() < self.at_once || now - app.since < MINUTE);
        }
        let app = apps.entry(app).or_insert_with(|| App {
            running: Arc::new(Semaphore::new(self.at_once)),
            since: now,
            made: 0,
        });
        if now - app.since >= MINUTE {
            (app.since, app.made) = (now, 0);
        }
        if app.made >= self.per_minute {
            return Err(Exhausted::PerMinute);
        }
        app.made += 1;
        Ok(Arc::clone(&app.running))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn attack_a_flood_waits_and_is_then_refused() {
        let (at_once, per_minute) = (8, 600);
        let shares = Shares { patience: Duration::from_millis(10), ..Shares::new(at_once, per_minute) };
        let app = AppId::new();
        let mut passes = Vec::new();
        for _ in 0..at_once {
            passes.push(shares.pass(app).await.unwrap());
        }
        assert_eq!(shares.pass(app).await.unwrap_err(), Exhausted::AtOnce);
        assert!(shares.pass(AppId::new()).await.is_ok(), "another app has its own share");
        passes.pop();
        assert!(shares.pass(app).await.is_ok());
        drop(passes);
        let mut made = 0;
        let refused = loop {
            match shares.pass(app).await {
                Ok(_) => made += 1,
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused, Exhausted::PerMinute);
        assert_eq!(made + u32::try_from(at_once).unwrap() + 2, per_minute);
    }
}
