//! How the pool ends: no new work, time for what runs, then the workers leave.

use std::time::Duration;

use super::job::Job;
use super::state::Shared;

impl Shared {
    pub(super) fn is_draining(&self) -> bool {
        self.lock().draining
    }

    pub(super) async fn drain(&self, patience: Duration) {
        drop(self.begin_drain());
        self.vacancy.notify_one();
        let finished = async {
            loop {
                let changed = self.changed.notified();
                if self.lock().running == 0 {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(patience, finished).await.is_err() {
            tracing::warn!("executions are still running at the end of the drain; they are cut off");
        }
        self.stop_workers();
        let gone = async {
            loop {
                let changed = self.changed.notified();
                if self.lock().connections.is_empty() {
                    return;
                }
                changed.await;
            }
        };
        // A worker that ignores this dies with the parent.
        let _ = tokio::time::timeout(Duration::from_secs(1), gone).await;
    }

    /// Queued jobs are answered by dropping them.
    fn begin_drain(&self) -> Vec<Job> {
        let mut state = self.lock();
        state.draining = true;
        state.admission.take_all()
    }

    fn stop_workers(&self) {
        let mut state = self.lock();
        for connection in &mut state.connections {
            connection.stop();
            connection.wake.notify_one();
        }
    }
}
