//! `pubsub::publish(topic, message)`, which is kept until every receiver has handled it, and
//! `pubsub::publish_ephemeral(topic, message)`, which is not; `pubsub::subscriber_token(topics, ttl_s)`.

use rhai::{Array, Dynamic, Engine, ImmutableString, Module};
use shared::host_call::HostOp;
use shared::host_call::pubsub::{Publish, Published, SubscriberToken, Token};

use crate::{Result, convert, failure, host};

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("publish", |topic: &str, message: Dynamic| {
        publish(HostOp::PubsubPublish, topic, &message)
    });
    module.set_native_fn("publish_ephemeral", |topic: &str, message: Dynamic| {
        publish(HostOp::PubsubPublishEphemeral, topic, &message)
    });
    module.set_native_fn("subscriber_token", |topics: Array, ttl_s: i64| subscriber_token(&topics, ttl_s));
    engine.register_static_module("pubsub", module.into());
}

/// Answers how many triggers it reaches.
fn publish(op: HostOp, topic: &str, message: &Dynamic) -> Result<i64> {
    let message = convert::json_text(message)?;
    let Published { receivers } = host::call(op, &Publish { topic, message: &message })?.read();
    Ok(receivers.into())
}

fn subscriber_token(topics: &Array, ttl_s: i64) -> Result<ImmutableString> {
    let names = topics.iter().map(|topic| topic.as_immutable_string_ref().map(|name| name.clone()));
    let names = names.collect::<std::result::Result<Vec<_>, _>>();
    let names = names
        .map_err(|_| failure("invalid_argument", "subscriber_token: topics are names, each a string"))?;
    // What is too long for the type is too long for the host as well, and none is too short.
    let ttl_s = u32::try_from(ttl_s.max(0)).unwrap_or(u32::MAX);
    let topics = names.iter().map(ImmutableString::as_str).collect();
    let answer = host::call(HostOp::PubsubSubscriberToken, &SubscriberToken { topics, ttl_s })?;
    Ok(answer.read::<Token<'_>>().token.into())
}
