//! `pubsub`: messages for everybody who listens to a topic.

use shared::allowance::Allowance;
use shared::call::{CallError, HostCall, Reply};
use shared::host_call::pubsub::{Publish, Published, SubscriberToken, Token};

use super::{Services, args, begin};
use crate::data::Access;
use crate::data::messages::check_publish;
use crate::data::rehearsal::Rehearsal;
use crate::events::topics::{self, Message};

/// Kept until every trigger has handled it.
pub(super) async fn publish(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let receivers = services.data.publish(&Access::of_script(call), &args(call)?).await?;
    Ok(Reply::success(&Published { receivers }))
}

/// Told to who can take it now, and then forgotten.
pub(super) async fn publish_ephemeral(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let publish: Publish<'_> = args(call)?;
    let message = Message { topic: check_publish(&publish)?, message: publish.message };
    let context = &call.context;
    let access = Access::of_script(call);
    let outside = services.data.outside(&access, &message)?;
    let (table, app, cause) = (services.snapshot.triggers(), context.app(), context.effect());
    let events = table.on_topic(app, &message.topic).count() + usize::from(outside.is_some());
    context.left.spend(Allowance::Events, events)?;
    begin(call)?;
    let receivers = match Rehearsal::of(call) {
        None => {
            services.data.pass_on(outside, &message);
            services.ephemeral.publish(&table, app, &message, cause)
        }
        // Nobody is told; it is said who would be.
        Some(_) => u32::try_from(topics::ready(&table, app, &message.topic).count()).unwrap_or(u32::MAX),
    };
    Ok(Reply::success(&Published { receivers }))
}

/// A token by which somebody outside listens.
pub(super) async fn subscriber_token(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let SubscriberToken { topics, ttl_s } = args(call)?;
    let token = services.data.subscriber_token(&Access::of_script(call), &topics, ttl_s).await?;
    Ok(Reply::success(&Token { token: &token }))
}
