//! `pubsub::publish(topic, message)`, which is kept until every receiver has handled it, and
//! `pubsub::publish_ephemeral(topic, message)`, which is not.

use rhai::{Dynamic, Engine, Module};
use shared::host_call::HostOp;
use shared::host_call::pubsub::{Publish, Published};

use crate::{Result, convert, host};

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("publish", |topic: &str, message: Dynamic| {
        publish(HostOp::PubsubPublish, topic, &message)
    });
    module.set_native_fn("publish_ephemeral", |topic: &str, message: Dynamic| {
        publish(HostOp::PubsubPublishEphemeral, topic, &message)
    });
    engine.register_static_module("pubsub", module.into());
}

/// Answers how many triggers it reaches.
fn publish(op: HostOp, topic: &str, message: &Dynamic) -> Result<i64> {
    let message = convert::json_text(message)?;
    let Published { receivers } = host::call(op, &Publish { topic, message: &message })?.read();
    Ok(receivers.into())
}
