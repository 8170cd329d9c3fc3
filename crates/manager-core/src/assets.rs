//! Static files for the ingress: read from the database, and kept in memory as long as there is room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::id::AppId;
use shared::limits::ASSET_BYTES_MAX;
use shared::ports::{Asset, AssetSource, AssetUnavailable, BoxFuture};
use sqlx::{Postgres, Transaction};
use tokio::sync::Semaphore;

use crate::snapshot::Snapshot;
use crate::store::{self, Database};

/// Content kept in memory, of all apps.
const KEPT_BYTES_MAX: usize = 32 << 20;
/// Answers kept in memory, also those that there is no such file.
const KEPT_MAX: usize = 4_096;
/// Reads at once: files must not take the connections that everything else needs.
const READS_MAX: usize = 2;

/// The files of all apps, as a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Assets {
    database: Database,
    kept: Arc<Mutex<Kept>>,
    reads: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Kept {
    answers: HashMap<(AppId, String), Option<Arc<Asset>>>,
    bytes: usize,
    /// Counts the times that something was forgotten: what was read before may be old.
    generation: u64,
}

impl Assets {
    pub(crate) fn new(database: Database) -> Self {
        Self { database, kept: Arc::default(), reads: Arc::new(Semaphore::new(READS_MAX)) }
    }

    /// Commits a change of files and shows it.
    pub(crate) async fn publish(
        &self,
        snapshot: &Arc<Snapshot>,
        change: Transaction<'static, Postgres>,
    ) -> sqlx::Result<()> {
        let published = snapshot.publish(change).await;
        // Also after a failure: a commit that failed may have happened all the same.
        self.kept().forget();
        published
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, app: AppId, path: &str) -> Result<Option<Arc<Asset>>, AssetUnavailable> {
        let key = (app, path.to_owned());
        let generation = {
            let kept = self.kept();
            if let Some(answer) = kept.answers.get(&key) {
                return Ok(answer.clone());
            }
            kept.generation
        };
        let _turn = self.reads.acquire().await.map_err(|_| AssetUnavailable)?;
        let found = match self.database.acquire().await {
            Ok(mut conn) => store::assets::read(&mut conn, app, path).await,
            Err(error) => Err(error),
        };
        let found = found.map_err(|error| {
            tracing::error!(%error, "a static file cannot be read");
            AssetUnavailable
        })?;
        let answer = found.map(Arc::new);
        self.kept().keep(key, answer.clone(), generation);
        Ok(answer)
    }
}

impl Kept {
    /// Forgets everything: changes are rare, and reading again is cheap.
    fn forget(&mut self) {
        self.answers.clear();
        self.bytes = 0;
        self.generation += 1;
    }

    fn keep(&mut self, key: (AppId, String), answer: Option<Arc<Asset>>, generation: u64) {
        if generation != self.generation {
            return;
        }
        let bytes = answer.as_ref().map_or(0, |asset| asset.content.len());
        if self.answers.len() >= KEPT_MAX || self.bytes + bytes > KEPT_BYTES_MAX {
            self.forget();
        }
        if self.answers.insert(key, answer).is_none() {
            self.bytes += bytes;
        }
    }
}

impl AssetSource for Assets {
    fn asset<'a>(
        &'a self,
        app: AppId,
        path: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<Asset>>, AssetUnavailable>> {
        Box::pin(self.read(app, path))
    }
}

const _: () = assert!(ASSET_BYTES_MAX <= KEPT_BYTES_MAX);
