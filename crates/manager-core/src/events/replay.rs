//! Dead letters are tried again.

use shared::cause::Cause;
use shared::id::{AppId, DeliveryId};
use sqlx::postgres::PgConnection;

use super::event::{EventKind, NewEvent, Payload};
use super::outbox::{EmitError, Outbox, Pending};
use super::queues;
use super::retry::RetryPolicy;
use super::triggers::Trigger;
use super::triggers::queue::QueueConfig;
use crate::store;
use crate::store::dead_letters::{DeadLetter, Filter};

/// Dead letters of one replay: more would hold their locks for long.
const REPLAY_MAX: u16 = 1_000;

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
    let letters = store::dead_letters::lock_unresolved(conn, app, filter, None, REPLAY_MAX.into()).await?;
    write(conn, outbox, app, letters, |event| NewEvent {
        version,
        cause: Cause { depth: event.cause.depth.max(depth), ..event.cause },
        ..event
    })
    .await
}

/// Gives the open dead letters of a queue to the consumer that it has now, whoever had them before, at most a
/// thousand.
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
    let (mut letters, mut after) = (Vec::new(), None);
    loop {
        let some = store::dead_letters::lock_unresolved(conn, app, &filter, after, REPLAY_MAX.into()).await?;
        let is_last = some.len() < REPLAY_MAX.into();
        after = some.last().map(|letter| letter.id);
        letters.extend(some.into_iter().filter(|letter| queues::is_of(&letter.payload, queue)));
        if is_last || letters.len() >= REPLAY_MAX.into() {
            break;
        }
    }
    letters.truncate(REPLAY_MAX.into());
    write(conn, outbox, app, letters, |event| NewEvent {
        trigger: Some(consumer.id),
        script: consumer.target.script,
        retry: consumer.retry.into(),
        order_key: queues::order_key_again(config, event.order_key),
        ..event
    })
    .await
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
