//! How many requests an app may have under way, and make in a minute.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::id::AppId;
use shared::limits::{OUTBOUND_CONCURRENT_MAX, OUTBOUND_PER_MINUTE_MAX};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Refused;

const MINUTE: Duration = Duration::from_secs(60);
/// How long a request waits for others of its app to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Apps that are remembered; those without requests under way are forgotten beyond.
const APPS_MAX: usize = 10_000;

#[derive(Debug)]
pub(super) struct Gate {
    patience: Duration,
    apps: Mutex<HashMap<AppId, App>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { patience: PATIENCE, apps: Mutex::default() }
    }
}

#[derive(Debug)]
struct App {
    running: Arc<Semaphore>,
    since: Instant,
    made: u32,
}

/// Held while a request is under way.
#[derive(Debug)]
pub(super) struct Pass(#[expect(dead_code, reason = "lets go when it is dropped")] OwnedSemaphorePermit);

impl Gate {
    pub(super) async fn pass(&self, app: AppId) -> Result<Pass, Refused> {
        let running = self.count(app)?;
        let waited = tokio::time::timeout(self.patience, running.acquire_owned()).await;
        match waited {
            Ok(Ok(permit)) => Ok(Pass(permit)),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(Refused::TooMany("too many requests are under way")),
        }
    }

    fn count(&self, app: AppId) -> Result<Arc<Semaphore>, Refused> {
        let now = Instant::now();
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        if apps.len() >= APPS_MAX {
            apps.retain(|_, app| {
                app.running.available_permits() < OUTBOUND_CONCURRENT_MAX || now - app.since < MINUTE
            });
        }
        let app = apps.entry(app).or_insert_with(|| App {
            running: Arc::new(Semaphore::new(OUTBOUND_CONCURRENT_MAX)),
            since: now,
            made: 0,
        });
        if now - app.since >= MINUTE {
            (app.since, app.made) = (now, 0);
        }
        if app.made >= OUTBOUND_PER_MINUTE_MAX {
            return Err(Refused::TooMany("the app has made too many requests in this minute"));
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
        let gate = Gate { patience: Duration::from_millis(10), ..Gate::default() };
        let app = AppId::new();
        let mut passes = Vec::new();
        for _ in 0..OUTBOUND_CONCURRENT_MAX {
            passes.push(gate.pass(app).await.unwrap());
        }
        assert!(matches!(gate.pass(app).await, Err(Refused::TooMany(_))));
        assert!(gate.pass(AppId::new()).await.is_ok(), "another app has its own share");
        passes.pop();
        assert!(gate.pass(app).await.is_ok());
        drop(passes);
        let mut made = 0;
        while gate.pass(app).await.is_ok() {
            made += 1;
        }
        assert_eq!(made + u32::try_from(OUTBOUND_CONCURRENT_MAX).unwrap() + 2, OUTBOUND_PER_MINUTE_MAX);
    }
}
