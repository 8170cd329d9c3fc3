//! Removes content that belongs to no file: what uploads left that were never finished, and what
//! could not be removed with its file.

use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures_util::StreamExt;
use shared::limits::FILE_UPLOAD_S_MAX;
use uuid::Uuid;

use super::blobs::Blobs;
use crate::store::{self, Database};

/// Blobs asked about at once.
const BATCH: usize = 1_000;
/// Age from which a content without a file is nobody's, unless the configuration says otherwise.
const AGE: Duration = Duration::from_secs(24 * 60 * 60);
const _: () = {
    // What an upload stored first has its file before it is that old.
    assert!(FILE_UPLOAD_S_MAX + 60 * 60 < AGE.as_secs());
};

/// When to look for content that is nobody's.
#[derive(Debug, Clone, Copy)]
pub struct OrphanSweep {
    /// The first time so long after the start.
    pub first: Duration,
    pub every: Duration,
    /// What is younger may get a file yet.
    pub age: Duration,
}

impl Default for OrphanSweep {
    /// Storage that nobody uses costs little; looking through it costs more.
    fn default() -> Self {
        let hour = Duration::from_secs(60 * 60);
        Self { first: hour, every: 24 * hour, age: AGE }
    }
}

/// Sweeps for ever.
pub(in crate::data) async fn run(blobs: Blobs, database: Database, plan: OrphanSweep) {
    let age = TimeDelta::from_std(plan.age).unwrap_or(TimeDelta::MAX);
    tokio::time::sleep(plan.first).await;
    loop {
        match sweep(&blobs, &database, age).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(objects = removed, "content of no file was removed"),
            Err(error) => tracing::warn!(%error, "content of no file could not be looked for"),
        }
        tokio::time::sleep(plan.every).await;
    }
}

/// Removes what is older than that and nobody's; answers how many objects.
async fn sweep(blobs: &Blobs, database: &Database, age: TimeDelta) -> sqlx::Result<usize> {
    let mut removed = 0;
    let before = Utc::now() - age;
    let mut batches = pin!(blobs.list(BATCH));
    while let Some(batch) = batches.next().await {
        let old: Vec<_> = batch.into_iter().filter(|object| object.modified <= before).collect();
        let names: HashSet<Uuid> = old.iter().map(|object| object.blob).collect();
        let names: Vec<Uuid> = names.into_iter().collect();
        let used: HashSet<Uuid> = {
            let mut conn = database.acquire().await?;
            store::files::used_blobs(&mut conn, &names).await?.into_iter().collect()
        };
        let unused = old.into_iter().filter(|object| !used.contains(&object.blob));
        for object in unused.filter(|object| !blobs.is_read(object.blob)) {
            blobs.remove_object(object.path).await;
            removed += 1;
        }
    }
    Ok(removed + blobs.remove_halves(before.into()).await)
}
