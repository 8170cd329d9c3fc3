//! What may not run, in memory: asked before every execution.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use shared::id::{AppId, ScriptId};
use shared::invocation::ScriptTarget;
use shared::script::BundleHash;
use tokio::sync::Mutex;

use crate::catch_up::{CatchUp, RETRY_FIRST};
use crate::store::incidents::Quarantine;
use crate::store::{self, Database};

/// What is quarantined, as all see it who ask.
#[derive(Debug)]
pub(super) struct Shown {
    quarantined: RwLock<Quarantined>,
    /// Of those who change it: each change is shown before the next one is committed, or a release could overtake the
    /// quarantine that it ends.
    turn: Mutex<()>,
    catch_up: CatchUp,
}

impl Shown {
    pub(super) fn refuses(&self, target: &ScriptTarget) -> bool {
        self.quarantined.read().unwrap_or_else(PoisonError::into_inner).refuses(target)
    }

    /// Commits a change and shows it. The commit must need no connection but its own: others may hold all the rest,
    /// and wait here.
    pub(super) async fn publish(
        &self,
        commit: impl Future<Output = sqlx::Result<()>>,
        show: impl FnOnce(&mut Quarantined),
    ) -> sqlx::Result<()> {
        let _turn = self.turn.lock().await;
        commit.await?;
        show(&mut self.quarantined.write().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// Reads again what is quarantined, as soon as the database lets it: a commit that failed may have happened all
    /// the same.
    pub(super) fn catch_up(self: &Arc<Self>, database: &Database) {
        let (shown, database) = (Arc::clone(self), database.clone());
        // Not at once: the server may still be busy with that commit.
        self.catch_up.begin(
            RETRY_FIRST,
            "what is quarantined here may differ from the database",
            move || {
                let (shown, database) = (Arc::clone(&shown), database.clone());
                async move { shown.reload(&database).await }
            },
        );
    }

    async fn reload(&self, database: &Database) -> sqlx::Result<()> {
        // Before the turn: whoever has that needs no connection but its own.
        let mut conn = database.acquire().await?;
        let _turn = self.turn.lock().await;
        let quarantines = store::incidents::quarantined(&mut conn).await?;
        let read: Quarantined = quarantines.into_iter().collect();
        *self.quarantined.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }
}

impl FromIterator<Quarantine> for Shown {
    fn from_iter<I: IntoIterator<Item = Quarantine>>(quarantines: I) -> Self {
        let quarantined = RwLock::new(quarantines.into_iter().collect());
        Self { quarantined, turn: Mutex::default(), catch_up: CatchUp::default() }
    }
}

/// The scripts that are quarantined, and what they ran: the same in the same app is refused under any name.
#[derive(Debug, Default)]
pub(super) struct Quarantined {
    scripts: HashMap<ScriptId, (AppId, BundleHash)>,
    contents: HashSet<(AppId, BundleHash)>,
}

impl Quarantined {
    fn refuses(&self, target: &ScriptTarget) -> bool {
        self.scripts.contains_key(&target.script) || self.contents.contains(&(target.app, target.bundle))
    }

    pub(super) fn insert(&mut self, Quarantine { app, script, bundle }: Quarantine) {
        self.scripts.insert(script, (app, bundle));
        self.contents.insert((app, bundle));
    }

    pub(super) fn remove(&mut self, script: ScriptId) {
        let Some(content) = self.scripts.remove(&script) else { return };
        if !self.scripts.values().any(|other| *other == content) {
            self.contents.remove(&content);
        }
    }
}

impl FromIterator<Quarantine> for Quarantined {
    fn from_iter<I: IntoIterator<Item = Quarantine>>(quarantines: I) -> Self {
        let mut quarantined = Self::default();
        quarantines.into_iter().for_each(|quarantine| quarantined.insert(quarantine));
        quarantined
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn what_is_committed_first_is_shown_before_anything_else_is_committed() {
        let quarantine =
            Quarantine { app: AppId::new(), script: ScriptId::new(), bundle: BundleHash([1; 32]) };
        let (shown, is_released) = (Shown::from_iter([]), Cell::new(false));
        let (commit, committed) = tokio::sync::oneshot::channel();
        let quarantines = shown.publish(
            async {
                committed.await.unwrap();
                Ok(())
            },
            |quarantined| quarantined.insert(quarantine),
        );
        let releases = shown.publish(
            async {
                is_released.set(true);
                Ok(())
            },
            |quarantined| quarantined.remove(quarantine.script),
        );
        let look = async {
            tokio::task::yield_now().await;
            assert!(!is_released.get(), "it waits for its turn");
            commit.send(()).unwrap();
        };
        let (quarantines, releases, ()) = tokio::join!(quarantines, releases, look);
        assert!(quarantines.is_ok() && releases.is_ok() && is_released.get());
        let quarantined = shown.quarantined.read().unwrap();
        assert!(quarantined.scripts.is_empty() && quarantined.contents.is_empty());
    }
}
