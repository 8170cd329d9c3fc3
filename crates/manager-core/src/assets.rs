//! Static files for the ingress: read from the database, and kept in memory as long as there is room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use shared::id::AppId;
use shared::limits::ASSET_BYTES_MAX;
use shared::ports::{Asset, AssetSource, AssetUnavailable, BoxFuture};
use tokio::sync::Semaphore;

use crate::snapshot::Snapshot;
use crate::store::{self, Database, Tx};

/// Content kept in memory, of all apps.
const KEPT_BYTES_MAX: usize = 32 << 20;
/// Answers kept in memory, also those that there is no such file.
const KEPT_MAX: usize = 4_096;
/// Content in memory with what was handed out and is kept no more: whoever takes a file slowly holds it for as long.
const HELD_BYTES_MAX: usize = 2 * KEPT_BYTES_MAX;
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
    /// What was read since the last change, and who may still have it.
    current: HashMap<(AppId, String), Weak<Asset>>,
    /// The same of what has changed since.
    outdated: Vec<(AppId, Weak<Asset>)>,
}

impl Assets {
    pub(crate) fn new(database: Database) -> Self {
        Self { database, kept: Arc::default(), reads: Arc::new(Semaphore::new(READS_MAX)) }
    }

    /// Commits a change of files and shows it.
    pub(crate) async fn publish(&self, snapshot: &Arc<Snapshot>, change: Tx) -> sqlx::Result<()> {
        let published = snapshot.publish(change).await;
        // Also after a failure: a commit that failed may have happened all the same.
        self.kept().change();
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
        if let Some(held) = self.kept().held(&key, generation)? {
            return Ok(Some(held));
        }
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

    /// Also what others hold is old now.
    fn change(&mut self) {
        let old = self.current.drain().map(|((app, _), asset)| (app, asset));
        self.outdated.extend(old);
        self.forget();
    }

    /// A file that somebody still has, though it is kept no more. An error when an app's files that are held so take as much
    /// as is left: whoever takes many files slowly must not fill memory.
    fn held(
        &mut self,
        key: &(AppId, String),
        generation: u64,
    ) -> Result<Option<Arc<Asset>>, AssetUnavailable> {
        self.current.retain(|_, asset| asset.strong_count() > 0);
        self.outdated.retain(|(_, asset)| asset.strong_count() > 0);
        if let Some(asset) = self.current.get(key).and_then(Weak::upgrade) {
            self.keep(key.clone(), Some(Arc::clone(&asset)), generation);
            return Ok(Some(asset));
        }
        let outdated = self.outdated.iter().map(|(app, asset)| (*app, asset));
        let current = self.current.iter().map(|((app, _), asset)| (*app, asset));
        let (mut all, mut of_app) = (0, 0);
        for (app, asset) in outdated.chain(current) {
            let bytes = asset.upgrade().map_or(0, |asset| asset.content.len());
            all += bytes;
            of_app += if app == key.0 { bytes } else { 0 };
        }
        if of_app > HELD_BYTES_MAX.saturating_sub(all) { Err(AssetUnavailable) } else { Ok(None) }
    }

    fn keep(&mut self, key: (AppId, String), answer: Option<Arc<Asset>>, generation: u64) {
        let held = answer.as_ref().map(Arc::downgrade);
        if generation != self.generation {
            self.outdated.extend(held.map(|asset| (key.0, asset)));
            return;
        }
        if let Some(asset) = held {
            self.current.insert(key.clone(), asset);
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

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn key(app: AppId, number: usize) -> (AppId, String) {
        (app, format!("/{number}"))
    }

    /// Reads a file as a request does; nothing when there is no room for it.
    fn read(kept: &mut Kept, key: &(AppId, String), content: usize) -> Option<Arc<Asset>> {
        if let Some(answer) = kept.answers.get(key) {
            return answer.clone();
        }
        let generation = kept.generation;
        if let Some(held) = kept.held(key, generation).ok()? {
            return Some(held);
        }
        let asset = Asset { content_type: String::new(), hash: [0; 32], content: vec![0; content] };
        let asset = Arc::new(asset);
        kept.keep(key.clone(), Some(Arc::clone(&asset)), generation);
        Some(asset)
    }

    #[test]
    fn attack_files_that_are_taken_slowly_have_no_more_memory_than_there_is_for_them() {
        let (mut kept, greedy, other) = (Kept::default(), AppId::new(), AppId::new());
        let first: Vec<_> = (0..100).filter_map(|n| read(&mut kept, &key(greedy, n), 5 * MIB)).collect();
        assert!(first.len() * 5 * MIB <= HELD_BYTES_MAX / 2 + 5 * MIB, "{} files", first.len());
        assert!(read(&mut kept, &key(other, 0), 5 * MIB).is_some(), "others have some left");
        kept.change();
        assert!(read(&mut kept, &key(greedy, 0), MIB).is_none(), "what is outdated is held as well");
        drop(first);
        assert!(read(&mut kept, &key(greedy, 0), MIB).is_some());
    }

    #[test]
    fn what_somebody_still_has_is_not_read_again_unless_it_has_changed() {
        let (mut kept, app) = (Kept::default(), AppId::new());
        let held = read(&mut kept, &key(app, 1), MIB).unwrap();
        kept.forget();
        assert!(Arc::ptr_eq(&held, &read(&mut kept, &key(app, 1), MIB).unwrap()));
        kept.change();
        assert!(!Arc::ptr_eq(&held, &read(&mut kept, &key(app, 1), MIB).unwrap()));
    }
}
