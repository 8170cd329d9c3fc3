//! Dead letters are tried again.

use shared::cause::Cause;
use shared::id::{AppId, DeliveryId};
use sqlx::postgres::PgConnection;

use super::event::{EventKind, NewEvent, Payload};
use super::outbox::{EmitError, Outbox, Pending};
use super::retry::RetryPolicy;
use crate::store;
use crate::store::dead_letters::Filter;

/// Dead letters of one replay: more would hold their locks for long.
const REPLAY_MAX: i64 = 1_000;

/// What was replayed.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) deliveries: Vec<DeliveryId>,
    pub(crate) pending: Pending,
}

/// Writes new events for the open dead letters that a filter means, at most a thousand, with all
/// their attempts before them, and in line with what has the same order key. `version` runs that version
/// instead of the live one. `depth` is that of whoever asks: a script that tries again what fails again and again comes to an end like any other.
pub(crate) async fn replay(
    conn: &mut PgConnection,
    outbox: &Outbox,
    app: AppId,
    filter: &Filter,
    version: Option<u32>,
    depth: u32,
) -> Result<Replay, EmitError> {
    let letters = store::dead_letters::lock_unresolved(conn, app, filter, REPLAY_MAX).await?;
    let mut events = Vec::with_capacity(letters.len());
    let mut replays = Vec::with_capacity(letters.len());
    for letter in letters {
        let Ok(kind) = letter.kind.parse::<EventKind>() else { continue };
        let cause = Cause {
            root: letter.root_id,
            parent: letter.parent_id,
            depth: u32::try_from(letter.depth).unwrap_or_default().max(depth),
        };
        let payload = Payload::from_stored(letter.payload);
        let event = NewEvent::new(app, letter.script_id, kind, cause, payload);
        let retry = RetryPolicy {
            max_attempts: letter.max_attempts.unsigned_abs(),
            base_ms: letter.base_ms.unsigned_abs(),
            cap_ms: letter.cap_ms.unsigned_abs(),
        };
        replays.push((letter.id, event.delivery));
        events.push(NewEvent {
            trigger: letter.trigger_id,
            version,
            retry,
            order_key: letter.order_key.and_then(|key| key.try_into().ok()),
            replay_of: Some(letter.delivery_id),
            ..event
        });
    }
    let pending = outbox.insert(conn, events).await?;
    store::dead_letters::set_replayed(conn, app, &replays).await?;
    Ok(Replay { deliveries: replays.into_iter().map(|(_, delivery)| delivery).collect(), pending })
}
