//! `atomic::commit`: several changes as one.
//!
//! Each operation is a map: `#{kv: "c", key: "k", set: 1}`, `#{docs: "c", id: id, patch: #{…}}`,
//! `#{kv: "c", key: "k", check: version}`.

use rhai::{Array, Dynamic, Engine, ImmutableString, Map, Module};
use shared::host_call::HostOp;
use shared::host_call::atomic::{Commit, Committed, Done, Op};
use shared::host_call::docs::{Create, Id, Mode, Update};
use shared::host_call::kv::{Condition, Incr, Key, Set};

use super::options::Options;
use super::{Result, failure, kv};
use crate::{convert, host};

const WORDS: &str = "an operation is kv or docs with one of set, delete, incr, check, create, update, patch";

pub(super) fn register(engine: &mut Engine) {
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
    }
}

/// An operation with the texts that it is made of.
struct Step {
    collection: ImmutableString,
    /// A key or an id.
    name: ImmutableString,
    data: String,
    act: Act,
}

enum Act {
    KvCheck(Option<u64>),
    KvSet(u64, Condition),
    KvDelete,
    KvIncr(i64),
    DocsCheck(Option<u64>),
    DocsCreate,
    DocsUpdate(Mode, Option<u64>),
    DocsDelete,
}

impl Step {
    fn read(op: &Dynamic) -> Result<Self> {
        let wrong = || failure("invalid_argument", WORDS);
        let map = op.read_lock::<Map>().ok_or_else(wrong)?;
        let mut options = Options::new("commit", &map);
        let (is_kv, collection) = match (options.text("kv")?, options.text("docs")?) {
            (Some(collection), None) => (true, collection),
            (None, Some(collection)) => (false, collection),
            _ => return Err(wrong()),
        };
        let name = options.text(if is_kv { "key" } else { "id" })?.unwrap_or_default();
        let (data, act) = if is_kv { kv_act(&map, &mut options)? } else { docs_act(&map, &mut options)? };
        options.finish()?;
        Ok(Self { collection, name, data, act })
    }

    fn op(&self) -> Op<'_> {
        let collection = self.collection.as_str();
        let key = Key { collection, key: &self.name };
        let id = Id { collection, id: &self.name };
        match self.act {
            Act::KvCheck(version) => Op::KvCheck(key, version),
            Act::KvSet(ttl_ms, condition) => {
                Op::KvSet(Set { collection, key: &self.name, value: &self.data, ttl_ms, condition })
            }
            Act::KvDelete => Op::KvDelete(key),
            Act::KvIncr(by) => Op::KvIncr(Incr { collection, key: &self.name, by }),
            Act::DocsCheck(version) => Op::DocsCheck(id, version),
            Act::DocsCreate => Op::DocsCreate(Create { collection, data: &self.data }),
            Act::DocsUpdate(mode, if_version) => {
                Op::DocsUpdate(Update { collection, id: &self.name, data: &self.data, mode, if_version })
            }
            Act::DocsDelete => Op::DocsDelete(id),
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
            let if_version = options.whole("if_version")?.map(|version| version as u64);
            return Ok((convert::json_text(data)?, Act::DocsUpdate(mode, if_version)));
        }
    }
    if options.flag("delete")?.unwrap_or(false) {
        return Ok((String::new(), Act::DocsDelete));
    }
    Err(failure("invalid_argument", WORDS))
}
