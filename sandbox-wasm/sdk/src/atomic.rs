//! `atomic::commit`: several changes as one.
//!
//! Each operation is a map: `#{kv: "c", key: "k", set: 1}`, `#{docs: "c", id: id, patch: #{…}}`,
//! `#{kv: "c", key: "k", check: version}`, `#{queue: "q", send: message}`, `#{pubsub: "t", publish: message}`.

use rhai::{Array, Dynamic, Engine, ImmutableString, Map, Module};
use shared::host_call::HostOp;
use shared::host_call::atomic::{Commit, Committed, Done, Op};
use shared::host_call::docs::{Create, Id, Mode, Update};
use shared::host_call::kv::{Condition, Incr, Key, Set};
use shared::host_call::pubsub::Publish;
use shared::host_call::queue::Send;

use crate::options::Options;
use crate::{Result, convert, failure, host, kv};

const WORDS: &str = "an operation is kv or docs with one of set, delete, incr, check, create, update, patch; \
                     or queue with send, or pubsub with publish";

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("commit", |ops: Array| commit(&ops));
    engine.register_static_module("atomic", module.into());
}

fn commit(ops: &Array) -> Result<Array> {
    let steps: Vec<Step> = ops.iter().map(Step::read).collect::<Result<_>>()?;
    let commit = Commit { ops: steps.iter().map(Step::op).collect() };
    let answer = host::call(HostOp::AtomicCommit, &commit)?;
    let Committed { done } = answer.read();
    Ok(done.into_iter().map(value).collect())
}

fn value(done: Done<'_>) -> Dynamic {
    match done {
        Done::Nothing => Dynamic::UNIT,
        Done::Version(version) => (version as i64).into(),
        Done::Sum(sum) => sum.into(),
        Done::Existed(existed) => existed.into(),
        Done::Id(id) => id.into(),
        Done::Receivers(number) => i64::from(number).into(),
    }
}

/// An operation with the texts that it is made of.
struct Step {
    /// A collection, a queue or a topic.
    place: ImmutableString,
    /// A key or an id.
    name: ImmutableString,
    data: String,
    act: Act,
}

/// Where an operation does something, by the word that names the place.
#[derive(Clone, Copy)]
enum Service {
    Kv,
    Docs,
    Queue,
    Pubsub,
}

const SERVICES: [(&str, Service); 4] =
    [("kv", Service::Kv), ("docs", Service::Docs), ("queue", Service::Queue), ("pubsub", Service::Pubsub)];

enum Act {
    KvCheck(Option<u64>),
    KvSet(u64, Condition),
    KvDelete,
    KvIncr(i64),
    DocsCheck(Option<u64>),
    DocsCreate,
    DocsUpdate(Mode, Option<u64>),
    DocsDelete,
    QueueSend { delay_ms: u64, key: Option<ImmutableString>, dedup: Option<ImmutableString> },
    PubsubPublish,
}

impl Step {
    fn read(op: &Dynamic) -> Result<Self> {
        let wrong = || failure("invalid_argument", WORDS);
        let map = op.read_lock::<Map>().ok_or_else(wrong)?;
        let mut options = Options::new("commit", &map);
        let mut found = None;
        for (word, service) in SERVICES {
            let Some(place) = options.text(word)? else { continue };
            if found.replace((service, place)).is_some() {
                return Err(wrong());
            }
        }
        let (service, place) = found.ok_or_else(wrong)?;
        let (name, (data, act)) = match service {
            Service::Kv => (options.text("key")?, kv_act(&map, &mut options)?),
            Service::Docs => (options.text("id")?, docs_act(&map, &mut options)?),
            Service::Queue => (None, queue_act(&map, &mut options)?),
            Service::Pubsub => (None, pubsub_act(&map, &mut options)?),
        };
        options.finish()?;
        Ok(Self { place, name: name.unwrap_or_default(), data, act })
    }

    fn op(&self) -> Op<'_> {
        let collection = self.place.as_str();
        let key = Key { collection, key: &self.name };
        let id = Id { collection, id: &self.name };
        match &self.act {
            Act::KvCheck(version) => Op::KvCheck(key, *version),
            Act::KvSet(ttl_ms, condition) => {
                let (ttl_ms, condition) = (*ttl_ms, *condition);
                Op::KvSet(Set { collection, key: &self.name, value: &self.data, ttl_ms, condition })
            }
            Act::KvDelete => Op::KvDelete(key),
            Act::KvIncr(by) => Op::KvIncr(Incr { collection, key: &self.name, by: *by }),
            Act::DocsCheck(version) => Op::DocsCheck(id, *version),
            Act::DocsCreate => Op::DocsCreate(Create { collection, data: &self.data }),
            Act::DocsUpdate(mode, if_version) => {
                let (mode, if_version) = (*mode, *if_version);
                Op::DocsUpdate(Update { collection, id: &self.name, data: &self.data, mode, if_version })
            }
            Act::DocsDelete => Op::DocsDelete(id),
            Act::QueueSend { delay_ms, key, dedup } => Op::QueueSend(Send {
                queue: collection,
                message: &self.data,
                delay_ms: *delay_ms,
                key: key.as_deref(),
                dedup: dedup.as_deref(),
            }),
            Act::PubsubPublish => Op::PubsubPublish(Publish { topic: collection, message: &self.data }),
        }
    }
}

fn kv_act(map: &Map, options: &mut Options<'_>) -> Result<(String, Act)> {
    // `check: ()` and `set: ()` mean something, so that it counts whether the name is there.
    if map.contains_key("check") {
        return Ok((String::new(), Act::KvCheck(options.whole("check")?.map(|version| version as u64))));
    }
    if let Some(value) = map.get("set") {
        options.value("set");
        let (ttl_ms, condition) = kv::conditions(options)?;
        return Ok((convert::json_text(value)?, Act::KvSet(ttl_ms, condition)));
    }
    if options.flag("delete")?.unwrap_or(false) {
        return Ok((String::new(), Act::KvDelete));
    }
    match options.whole("incr")? {
        Some(by) => Ok((String::new(), Act::KvIncr(by))),
        None => Err(failure("invalid_argument", WORDS)),
    }
}

fn docs_act(map: &Map, options: &mut Options<'_>) -> Result<(String, Act)> {
    if map.contains_key("check") {
        return Ok((String::new(), Act::DocsCheck(options.whole("check")?.map(|version| version as u64))));
    }
    if let Some(data) = options.value("create") {
        return Ok((convert::json_text(data)?, Act::DocsCreate));
    }
    for (name, mode) in [("update", Mode::Replace), ("patch", Mode::Merge)] {
        if let Some(data) = options.value(name) {
            let if_version = options.if_version()?;
            return Ok((convert::json_text(data)?, Act::DocsUpdate(mode, if_version)));
        }
    }
    if options.flag("delete")?.unwrap_or(false) {
        return Ok((String::new(), Act::DocsDelete));
    }
    Err(failure("invalid_argument", WORDS))
}

/// A message can be `()`, so that it counts whether the word is there.
fn queue_act(map: &Map, options: &mut Options<'_>) -> Result<(String, Act)> {
    let message = map.get("send").ok_or_else(|| failure("invalid_argument", WORDS))?;
    options.value("send");
    let delay_ms = options.seconds("delay")?.unwrap_or(0);
    let (key, dedup) = (options.text("key")?, options.text("dedup")?);
    Ok((convert::json_text(message)?, Act::QueueSend { delay_ms, key, dedup }))
}

fn pubsub_act(map: &Map, options: &mut Options<'_>) -> Result<(String, Act)> {
    let message = map.get("publish").ok_or_else(|| failure("invalid_argument", WORDS))?;
    options.value("publish");
    Ok((convert::json_text(message)?, Act::PubsubPublish))
}
