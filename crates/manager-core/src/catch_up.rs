//! Reading again what memory has of the database, as soon as the database lets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The pause after a try that failed; each further one is twice as long.
pub(crate) const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(10);

/// One such reading. One at a time waits to begin; those who read see to it themselves that they do not meet.
#[derive(Debug, Default)]
pub(crate) struct CatchUp(Arc<AtomicBool>);

impl CatchUp {
    /// Reads after this time, and until it has succeeded; does nothing while another waits to begin, but one that reads already
    /// may have missed what is new. `behind` is what the log says after each try that failed.
    pub(crate) fn begin<F>(
        &self,
        after: Duration,
        behind: &'static str,
        read: impl Fn() -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = sqlx::Result<()>> + Send,
    {
        let is_waiting = Arc::clone(&self.0);
        if is_waiting.swap(true, Ordering::AcqRel) {
            return;
        }
        tokio::spawn(async move {
            let mut delay = after;
            loop {
                tokio::time::sleep(delay).await;
                // Taken back first: a change from here on is either in what is read or has it read again.
                is_waiting.store(false, Ordering::Release);
                match read().await {
                    Ok(()) | Err(sqlx::Error::PoolClosed) => return,
                    Err(error) => {
                        tracing::warn!(%error, "{behind}");
                        if is_waiting.swap(true, Ordering::AcqRel) {
                            return;
                        }
                    }
                }
                delay = (delay * 2).clamp(RETRY_FIRST, RETRY_LONGEST);
            }
        });
    }
}
