//! `pubsub`: messages for everybody who listens to a topic.

use shared::allowance::Allowance;
use shared::call::{CallError, HostCall, Reply};
use shared::host_call::pubsub::{Publish, Published};
use shared::name::{InvalidName, TopicName};

use super::queue::check_message;
use super::{Services, args, begin, not_accepted};
use crate::data::failed;
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
    context.left.spend(Allowance::Events, events.len())?;
    let mut tx = services.database.begin().await.map_err(|error| failed(&error))?;
    begin(call)?;
    let pending = services.outbox.insert(&mut tx, events).await.map_err(not_accepted)?;
    tx.commit().await.map_err(|error| failed(&error))?;
    pending.hand_over();
    Ok(Reply::success(&Published { receivers }))
}

/// Told to who can take it now, and then forgotten.
pub(super) async fn publish_ephemeral(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let (_, message) = checked(call)?;
    let context = &call.context;
    let cause = context.effect();
    let triggers = services.snapshot.triggers();
    context.left.spend(Allowance::Events, triggers.on_topic(context.app(), &message.topic).count())?;
    begin(call)?;
    let receivers = services.ephemeral.publish(&triggers, context.app(), &message, cause);
    Ok(Reply::success(&Published { receivers }))
}

fn checked(call: &HostCall) -> Result<(TopicName, Message<'_>), CallError> {
    let Publish { topic, message } = args(call)?;
    let topic: TopicName =
        topic.parse().map_err(|error: InvalidName| CallError::invalid(error.to_string()))?;
    check_message(message)?;
    Ok((topic.clone(), Message { topic, message }))
}
