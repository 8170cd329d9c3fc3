//! Dead letters are tried again.

use shared::cause::Cause;
use shared::id::{AppId, DeadLetterId, DeliveryId};
use sqlx::postgres::PgConnection;

use super::event::{EventKind, NewEvent, Payload};
use super::outbox::{EmitError, Outbox, Pending};
use super::queues;
use super::retry::RetryPolicy;
use super::triggers::Trigger;
use super::triggers::queue::QueueConfig;
use crate::store;
use crate::store::dead_letters::{DeadLetter, Filter, Unresolved};

/// Dead letters of one replay: more would hold their locks for long.
const REPLAY_MAX: u16 = 1_000;
/// Their payloads: they are in memory together. One that is longer is tried again alone.
const REPLAY_BYTES_MAX: u64 = 32 << 20;

/// What was replayed.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) deliveries: Vec<DeliveryId>,
    pub(crate) pending: Pending,
}

/// Writes new events for the open dead letters that a filter means, the oldest, as many as one replay has room for, with
/// all their attempts before them, and in line with what has the same order key. `version` runs that version instead of
/// the live one. `depth` is that of whoever asks: a script that tries again what fails again and again comes to an end
/// like any other.
pub(crate) async fn replay(
    conn: &mut PgConnection,
    outbox: &Outbox,
    app: AppId,
    filter: &Filter,
    version: Option<u32>,
    depth: u32,
) -> Result<Replay, EmitError> {
    let mut batch = Batch::default();
    let open = store::dead_letters::lock_unresolved(conn, app, filter, None, REPLAY_MAX.into()).await?;
    for letter in store::dead_letters::read(conn, app, &batch.next(&open)).await? {
        batch.add(letter);
    }
    write(conn, outbox, app, batch.letters, |event| NewEvent {
        version,
        cause: Cause { depth: event.cause.depth.max(depth), ..event.cause },
        ..event
    })
    .await
}

/// Gives the open dead letters of a queue to the consumer that it has now, whoever had them before, as many as one
/// replay has room for.
pub(crate) async fn redrive(
    conn: &mut PgConnection,
    outbox: &Outbox,
    consumer: &Trigger,
    config: &QueueConfig,
) -> Result<Replay, EmitError> {
    let (app, queue) = (consumer.app, &config.queue);
    let filter = Filter {
        is_unresolved: true,
        kind: Some(EventKind::Queue.as_str().to_owned()),
        // Others are passed over without being brought here.
        mentions: Some(queues::mark(queue)),
        ..Filter::default()
    };
    let (mut batch, mut after) = (Batch::default(), None);
    loop {
        let open = store::dead_letters::lock_unresolved(conn, app, &filter, after, REPLAY_MAX.into()).await?;
        let next = batch.next(&open);
        let Some(last) = next.last() else { break };
        after = Some(*last);
        for letter in store::dead_letters::read(conn, app, &next).await? {
            if queues::is_of(&letter.payload, queue) {
                batch.add(letter);
            }
        }
    }
    write(conn, outbox, app, batch.letters, |event| NewEvent {
        trigger: Some(consumer.id),
        script: consumer.target.script,
        retry: consumer.retry.into(),
        order_key: queues::order_key_again(config, event.order_key),
        ..event
    })
    .await
}

/// The dead letters of one replay, with their payloads.
#[derive(Default)]
struct Batch {
    letters: Vec<DeadLetter>,
    bytes: u64,
}

impl Batch {
    /// The first of these, as many as there is room for; where nothing is yet, one at least.
    fn next(&self, open: &[Unresolved]) -> Vec<DeadLetterId> {
        let mut bytes = self.bytes;
        let mut has_room = |place: usize, letter: Unresolved| {
            bytes = bytes.saturating_add(letter.payload_bytes.unsigned_abs().into());
            bytes <= REPLAY_BYTES_MAX || (self.letters.is_empty() && place == 0)
        };
        let room = usize::from(REPLAY_MAX).saturating_sub(self.letters.len());
        let fitting =
            open.iter().take(room).enumerate().take_while(|(place, letter)| has_room(*place, **letter));
        fitting.map(|(_, letter)| letter.id).collect()
    }

    fn add(&mut self, letter: DeadLetter) {
        self.bytes = self.bytes.saturating_add(letter.payload.len() as u64);
        self.letters.push(letter);
    }
}

/// Writes the events of dead letters, each as it was, but for what `change` makes of it.
async fn write(
    conn: &mut PgConnection,
    outbox: &Outbox,
    app: AppId,
    letters: Vec<DeadLetter>,
    change: impl Fn(NewEvent) -> NewEvent,
) -> Result<Replay, EmitError> {
    let mut events = Vec::with_capacity(letters.len());
    let mut replays = Vec::with_capacity(letters.len());
    for letter in letters {
        let id = letter.id;
        let Some(event) = event(letter) else { continue };
        replays.push((id, event.delivery));
        events.push(change(event));
    }
    let pending = outbox.insert(conn, events).await?;
    store::dead_letters::set_replayed(conn, app, &replays).await?;
    Ok(Replay { deliveries: replays.into_iter().map(|(_, delivery)| delivery).collect(), pending })
}

/// The event of a dead letter as it was, under a new delivery.
fn event(letter: DeadLetter) -> Option<NewEvent> {
    let kind = letter.kind.parse::<EventKind>().ok()?;
    let cause = Cause {
        root: letter.root_id,
        parent: letter.parent_id,
        depth: u32::try_from(letter.depth).unwrap_or_default(),
    };
    let payload = Payload::from_stored(letter.payload);
    Some(NewEvent {
        trigger: letter.trigger_id,
        retry: RetryPolicy {
            max_attempts: letter.max_attempts.unsigned_abs(),
            base_ms: letter.base_ms.unsigned_abs(),
            cap_ms: letter.cap_ms.unsigned_abs(),
        },
        order_key: letter.order_key.and_then(|key| key.try_into().ok()),
        replay_of: Some(letter.delivery_id),
        ..NewEvent::new(letter.app_id, letter.script_id, kind, cause, payload)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(batch: &Batch, bytes: &[u64]) -> usize {
        let open = bytes.iter().map(|bytes| Unresolved {
            id: DeadLetterId::new(),
            payload_bytes: i32::try_from(*bytes).unwrap(),
        });
        let open: Vec<_> = open.collect();
        let next = batch.next(&open);
        assert_eq!(next, open[..next.len()].iter().map(|letter| letter.id).collect::<Vec<_>>());
        next.len()
    }

    #[test]
    fn a_replay_takes_what_has_room_in_memory_and_one_at_least() {
        let empty = Batch::default();
        let half = REPLAY_BYTES_MAX / 2;
        assert_eq!(taken(&empty, &[]), 0);
        assert_eq!(taken(&empty, &[half, half, 1]), 2);
        assert_eq!(taken(&empty, &[half, half + 1, 1]), 1, "what is younger does not overtake");
        assert_eq!(taken(&empty, &[REPLAY_BYTES_MAX + 1, 0]), 1);
        assert_eq!(taken(&empty, &[1; 1_001]), usize::from(REPLAY_MAX));
    }
}
