//! Writes down what came of deliveries.

use std::collections::HashSet;

use shared::id::AppId;
use uuid::Uuid;

use super::runner::Runner;
use crate::events::outbox::{Load, Outbox};
use crate::events::row::shard_of;
use crate::events::verdict::Settlement;
use crate::store::outbox::{Burial, Later};
use crate::store::{self, Database};

/// A batch, by what is to be done.
#[derive(Default)]
struct Sorted {
    remove: Vec<i64>,
    later: Vec<Later>,
    bury: Vec<Burial>,
    note: Vec<(i64, String)>,
    strike: Vec<(i64, u16)>,
}

/// Settles a batch; answers the rows that were not there or not ours.
pub(super) async fn settle(
    database: &Database,
    outbox: &Outbox,
    runner: &Runner,
    owner: Uuid,
    rows: &[(i64, AppId, Settlement)],
) -> sqlx::Result<Vec<i64>> {
    let sorted = sort(rows);
    let mut found = Vec::with_capacity(rows.len());
    if !sorted.remove.is_empty() {
        let _turn = database.turn().await;
        let mut tx = database.begin_with(store::outbox::BEGIN_BY_INDEX_LAZILY).await?;
        let removed = store::outbox::remove(&mut tx, owner, &sorted.remove).await?;
        tx.commit().await?;
        found.extend(removed);
    }
    if found.len() < rows.len() && rows.len() > sorted.remove.len() {
        found.extend(rewrite(database, outbox, runner, owner, rows, &sorted).await?);
    }
    let found: HashSet<i64> = found.into_iter().collect();
    Ok(rows.iter().map(|(id, ..)| *id).filter(|id| !found.contains(id)).collect())
}

/// Counts what waits no more of a batch that was settled. So many bytes its rows' payloads had.
pub(super) fn note_done(outbox: &Outbox, rows: &[(i64, AppId, Settlement)], bytes: &[usize], missed: &[i64]) {
    for ((id, app, settlement), bytes) in rows.iter().zip(bytes) {
        let stays = matches!(
            settlement,
            Settlement::Later { .. } | Settlement::Hold { .. } | Settlement::Strike { .. }
        );
        if !stays && !missed.contains(id) {
            outbox.done(*app, Load::of_one(*bytes));
        }
    }
}

/// Everything that must not be lost: on the disk when it is committed, and only while the shards are
/// ours until then.
async fn rewrite(
    database: &Database,
    outbox: &Outbox,
    runner: &Runner,
    owner: Uuid,
    rows: &[(i64, AppId, Settlement)],
    sorted: &Sorted,
) -> sqlx::Result<Vec<i64>> {
    let mut shards: Vec<i16> = rows.iter().map(|(_, app, _)| i16::from(shard_of(*app))).collect();
    shards.sort_unstable();
    shards.dedup();
    let mut tx = database.begin_with(store::outbox::BEGIN_BY_INDEX).await?;
    store::outbox::lock_owned(&mut tx, owner, &shards).await?;
    let mut found = Vec::new();
    if !sorted.later.is_empty() {
        found.extend(store::outbox::settle_later(&mut tx, owner, &sorted.later).await?);
    }
    if !sorted.strike.is_empty() {
        found.extend(store::outbox::set_strikes(&mut tx, owner, &sorted.strike).await?);
    }
    if !sorted.note.is_empty() {
        found.extend(store::outbox::note_failures(&mut tx, owner, &sorted.note).await?);
    }
    let mut pending = None;
    if !sorted.bury.is_empty() {
        let (ids, letters) = store::outbox::bury(&mut tx, owner, &sorted.bury).await?;
        found.extend(ids);
        pending = Some(runner.announce(&mut tx, outbox, &letters).await?);
    }
    tx.commit().await?;
    if let Some(pending) = pending {
        pending.hand_over();
    }
    for (_, _, settlement) in rows {
        if let Settlement::Hold { trigger: Some(trigger), .. } = settlement {
            runner.held(*trigger);
        }
    }
    Ok(found)
}

fn sort(rows: &[(i64, AppId, Settlement)]) -> Sorted {
    let mut sorted = Sorted::default();
    for (id, _, settlement) in rows {
        let id = *id;
        match settlement {
            Settlement::Remove => sorted.remove.push(id),
            Settlement::Later { attempts, strikes, delay, error } => sorted.later.push(Later {
                id,
                attempts: *attempts,
                strikes: *strikes,
                delay_s: delay.as_secs_f64(),
                error: error.clone(),
            }),
            Settlement::Hold { attempts, strikes, .. } => sorted.later.push(Later {
                id,
                attempts: *attempts,
                strikes: *strikes,
                delay_s: f64::INFINITY,
                error: None,
            }),
            Settlement::Bury { reason, attempts, error } => sorted.bury.push(Burial {
                id,
                reason: reason.as_str(),
                attempts: *attempts,
                error: error.clone(),
            }),
            Settlement::NoteFailure { error } => sorted.note.push((id, error.clone())),
            Settlement::Strike { strikes } => sorted.strike.push((id, *strikes)),
        }
    }
    sorted
}
