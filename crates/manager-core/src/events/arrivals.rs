//! Apps whose events are being written down just now. An app with a backlog makes the machine busy all by itself, and
//! what comes for another app meanwhile would wait for the processor at each step of its way: into the table, onto
//! the disk, to a worker. So the dispatcher holds its breath for it, and can only if it is told beforehand.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::id::AppId;
use tokio::sync::Notify;

#[derive(Debug, Clone, Default)]
pub(super) struct Arrivals(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    apps: Mutex<Vec<AppId>>,
    fewer: Notify,
}

/// Events that are on their way until this is dropped.
#[derive(Debug)]
pub(super) struct Arrival {
    inner: Arc<Inner>,
    apps: Vec<AppId>,
}

impl Arrivals {
    /// Says that events of these apps are on their way.
    pub(super) fn announce(&self, apps: impl Iterator<Item = AppId>) -> Arrival {
        let apps: Vec<_> = apps.collect();
        self.0.apps().extend_from_slice(&apps);
        Arrival { inner: Arc::clone(&self.0), apps }
    }

    /// Whether events of such an app are on their way.
    pub(super) fn any(&self, is_such: impl FnMut(&AppId) -> bool) -> bool {
        self.0.apps().iter().any(is_such)
    }

    /// Waits until some have arrived. For one who waits at a time.
    pub(super) async fn fewer(&self) {
        self.0.fewer.notified().await;
    }
}

impl Inner {
    fn apps(&self) -> MutexGuard<'_, Vec<AppId>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let mut apps = self.inner.apps();
        for app in &self.apps {
            if let Some(at) = apps.iter().position(|known| known == app) {
                apps.swap_remove(at);
            }
        }
        drop(apps);
        self.inner.fewer.notify_one();
    }
}
