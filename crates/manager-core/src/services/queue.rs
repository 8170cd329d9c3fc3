//! `queue`: messages for one consumer.

use chrono::Utc;
use shared::call::{CallCode, CallError, HostCall, Reply};
use shared::host_call::queue::{Accepted, Named, Send, Stats};
use shared::json_scan;
use shared::limits::MESSAGE_BYTES_MAX;
use shared::name::QueueName;

use super::{Services, args, begin};
use crate::data::{Access, failed};
use crate::events::queues::{Message, SendError};
use crate::store;

pub(super) async fn send(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let Send { queue, message, delay_ms, key, dedup } = args(call)?;
    let queue = name(queue)?;
    check_message(message)?;
    let message = Message { queue: &queue, message, delay_ms, key, dedup };
    let mut tx = services.data.begin(&Access::of_script(call)).await?;
    let context = &call.context;
    let cause = context.effect();
    begin(call)?;
    let sent = services.queues.send(&mut tx, context.app(), message, |_| cause).await.map_err(refused)?;
    let delivery = sent.delivery;
    tx.commit(sent.into()).await?;
    Ok(Reply::success(&Accepted { id: delivery.to_bytes() }))
}

pub(super) async fn stats(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let queue = name(args::<Named<'_>>(call)?.queue)?;
    let app = call.context.app();
    let consumer = services.snapshot.triggers().consumer(app, &queue).map(|consumer| consumer.id);
    let mut conn = services.data.acquire(&Access::of_script(call)).await?;
    let read = async {
        let level = store::queues::levels(&mut conn, app, Some(&queue)).await?.pop();
        let in_flight = match consumer {
            Some(consumer) => store::queues::in_flight(&mut conn, app, &[consumer]).await?,
            None => Vec::new(),
        };
        Ok((level, in_flight))
    };
    let (level, in_flight) = read.await.map_err(|error: sqlx::Error| failed(&error))?;
    let count = |number: i64| u64::try_from(number).unwrap_or_default();
    let oldest =
        level.as_ref().and_then(|level| level.oldest_at).map(|at| (Utc::now() - at).num_milliseconds());
    Ok(Reply::success(&Stats {
        ready: level.as_ref().map_or(0, |level| count(level.ready)),
        delayed: level.as_ref().map_or(0, |level| count(level.delayed)),
        in_flight: in_flight.first().map_or(0, |(_, number)| count(*number)),
        oldest_ms: oldest.map_or(0, count),
        is_paused: level.is_some_and(|level| level.is_paused),
    }))
}

fn name(text: &str) -> Result<QueueName, CallError> {
    text.parse().map_err(|error| CallError::invalid(format!("{error}")))
}

/// A message, or what a later call is given: JSON, and not too much of it.
pub(super) fn check_message(message: &str) -> Result<(), CallError> {
    if message.len() > MESSAGE_BYTES_MAX {
        let text = format!("a message has {MESSAGE_BYTES_MAX} bytes of JSON at most");
        return Err(CallError::new(CallCode::TooLarge, text));
    }
    json_scan::check(message).map_err(|error| CallError::invalid(error.to_string()))
}

fn refused(error: SendError) -> CallError {
    match error {
        SendError::Database(error) => failed(&error),
        SendError::Full => CallError::new(CallCode::BudgetExhausted, error.to_string()),
        SendError::OtherMessage => CallError::new(CallCode::Conflict, error.to_string()),
        SendError::DelayTooLong | SendError::InvalidKey => CallError::invalid(error.to_string()),
    }
}
