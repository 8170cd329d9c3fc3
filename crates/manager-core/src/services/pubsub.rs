//! `pubsub`: messages for everybody who listens to a topic.

use shared::call::{CallError, HostCall, Reply};
use shared::host_call::pubsub::{Publish, Published};
use shared::name::{InvalidName, TopicName};

use super::queue::check_message;
use super::{Services, args, begin, not_accepted};
use crate::data::Access;
use crate::data::rehearsal::Rehearsal;
use crate::events::topics::{self, Message};

/// Kept until every trigger has handled it.
pub(super) async fn publish(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let (topic, message) = checked(call)?;
    let context = &call.context;
    let events = topics::events(&services.snapshot.triggers(), context.app(), &message, || context.effect());
    let events = events.map_err(|error| CallError::invalid(error.to_string()))?;
    let receivers = u32::try_from(events.len()).unwrap_or(u32::MAX);
    if receivers == 0 {
        tracing::debug!(%topic, "nobody listens to a topic");
        return Ok(Reply::success(&Published { receivers }));
    }
    let mut tx = services.data.begin(&Access::of_script(call)).await?;
    begin(call)?;
    let pending = services.outbox.insert(&mut tx, events).await.map_err(not_accepted)?;
    tx.commit(pending.into()).await?;
    Ok(Reply::success(&Published { receivers }))
}

/// Told to who can take it now, and then forgotten.
pub(super) async fn publish_ephemeral(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let (topic, message) = checked(call)?;
    let context = &call.context;
    let (table, app, cause) = (services.snapshot.triggers(), context.app(), context.effect());
    begin(call)?;
    let receivers = match Rehearsal::of(call) {
        None => services.ephemeral.publish(&table, app, &message, cause),
        // Nobody is told; it is said who would be.
        Some(_) => u32::try_from(topics::ready(&table, app, &topic).count()).unwrap_or(u32::MAX),
    };
    Ok(Reply::success(&Published { receivers }))
}

fn checked(call: &HostCall) -> Result<(TopicName, Message<'_>), CallError> {
    let Publish { topic, message } = args(call)?;
    let topic: TopicName =
        topic.parse().map_err(|error: InvalidName| CallError::invalid(error.to_string()))?;
    check_message(message)?;
    Ok((topic.clone(), Message { topic, message }))
}
