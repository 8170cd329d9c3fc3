//! `queue::send(name, message [, #{delay, key, dedup}])` and `queue::stats(name)`.

use rhai::{Dynamic, Engine, Map, Module};
use shared::host_call::HostOp;
use shared::host_call::queue::{Accepted, Named, Send, Stats};

use crate::options::Options;
use crate::{Result, convert, host};

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("send", |queue: &str, message: Dynamic| send(queue, &message, &Map::new()));
    module
        .set_native_fn("send", |queue: &str, message: Dynamic, options: Map| send(queue, &message, &options));
    module.set_native_fn("stats", stats);
    engine.register_static_module("queue", module.into());
}

/// Answers the id of the message's delivery.
fn send(queue: &str, message: &Dynamic, options: &Map) -> Result<String> {
    let mut options = Options::new("queue::send", options);
    let delay_ms = options.seconds("delay")?.unwrap_or(0);
    let (key, dedup) = (options.text("key")?, options.text("dedup")?);
    options.finish()?;
    let message = convert::json_text(message)?;
    let send = Send { queue, message: &message, delay_ms, key: key.as_deref(), dedup: dedup.as_deref() };
    let Accepted { id } = host::call(HostOp::QueueSend, &send)?.read();
    Ok(convert::uuid_text(id))
}

fn stats(queue: &str) -> Result<Map> {
    let Stats { ready, delayed, in_flight, oldest_ms, is_paused } =
        host::call(HostOp::QueueStats, &Named { queue })?.read();
    let mut map = Map::new();
    for (name, number) in
        [("ready", ready), ("delayed", delayed), ("in_flight", in_flight), ("oldest_ms", oldest_ms)]
    {
        map.insert(name.into(), i64::try_from(number).unwrap_or(i64::MAX).into());
    }
    map.insert("paused".into(), is_paused.into());
    Ok(map)
}
