//! `kv::collection(name)`: values by key, kept by the platform.

use rhai::{Array, Dynamic, Engine, ImmutableString, Map, Module};
use shared::host_call::HostOp;
use shared::host_call::kv::{
    Condition, Entry, Existed, Found, FoundEntry, FoundMany, Incr, Key, Keys, List, Page, Set, Sum, Written,
};

use crate::options::Options;
use crate::{Result, convert, failure, host};

/// Entries of a page unless a script says otherwise.
const LIMIT_DEFAULT: u32 = 100;

/// The handle that scripts hold.
#[derive(Clone)]
struct Collection {
    name: ImmutableString,
}

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("collection", |name: ImmutableString| Ok(Collection { name }));
    engine.register_static_module("kv", module.into());
    engine.register_type_with_name::<Collection>("KvCollection");
    engine.register_fn("get", |kv: &mut Collection, key: &str| kv.get(key));
    engine.register_fn("entry", |kv: &mut Collection, key: &str| kv.entry(key));
    engine.register_fn("get_many", |kv: &mut Collection, keys: Array| kv.get_many(&keys));
    engine.register_fn("has", |kv: &mut Collection, key: &str| kv.existed(HostOp::KvHas, key));
    engine.register_fn("delete", |kv: &mut Collection, key: &str| kv.existed(HostOp::KvDelete, key));
    engine.register_fn("set", |kv: &mut Collection, key: &str, value: Dynamic| {
        kv.set(key, &value, 0, Condition::None)
    });
    engine.register_fn("set_with", |kv: &mut Collection, key: &str, value: Dynamic, options: Map| {
        let mut options = Options::new("set_with", &options);
        let (ttl_ms, condition) = conditions(&mut options)?;
        options.finish()?;
        kv.set(key, &value, ttl_ms, condition)
    });
    engine.register_fn("incr", |kv: &mut Collection, key: &str| kv.incr(key, 1));
    engine.register_fn("incr", |kv: &mut Collection, key: &str, by: i64| kv.incr(key, by));
    engine.register_fn("list", |kv: &mut Collection| kv.list(&Map::new()));
    engine.register_fn("list", |kv: &mut Collection, options: Map| kv.list(&options));
}

impl Collection {
    fn key<'a>(&'a self, key: &'a str) -> Key<'a> {
        Key { collection: &self.name, key }
    }

    fn get(&self, key: &str) -> Result<Dynamic> {
        let answer = host::call(HostOp::KvGet, &self.key(key))?;
        value(answer.read::<Found<'_>>().value)
    }

    fn entry(&self, key: &str) -> Result<Dynamic> {
        let answer = host::call(HostOp::KvEntry, &self.key(key))?;
        match answer.read::<FoundEntry<'_>>().entry {
            Some(entry) => Ok(map(&entry)?.into()),
            None => Ok(Dynamic::UNIT),
        }
    }

    fn get_many(&self, keys: &Array) -> Result<Array> {
        let keys: Option<Vec<_>> = keys.iter().map(|key| key.as_immutable_string_ref().ok()).collect();
        let keys = keys.ok_or_else(|| failure("invalid_argument", "get_many takes an array of strings"))?;
        let keys = Keys { collection: &self.name, keys: keys.iter().map(|key| key.as_str()).collect() };
        let answer = host::call(HostOp::KvGetMany, &keys)?;
        answer.read::<FoundMany<'_>>().values.into_iter().map(value).collect()
    }

    fn existed(&self, op: HostOp, key: &str) -> Result<bool> {
        let Existed { existed } = host::call(op, &self.key(key))?.read();
        Ok(existed)
    }

    fn set(&self, key: &str, value: &Dynamic, ttl_ms: u64, condition: Condition) -> Result<i64> {
        let value = convert::json_text(value)?;
        let set = Set { collection: &self.name, key, value: &value, ttl_ms, condition };
        let Written { version } = host::call(HostOp::KvSet, &set)?.read();
        Ok(version as i64)
    }

    fn incr(&self, key: &str, by: i64) -> Result<i64> {
        let Sum { value, .. } = host::call(HostOp::KvIncr, &Incr { collection: &self.name, key, by })?.read();
        Ok(value)
    }

    fn list(&self, options: &Map) -> Result<Map> {
        let mut options = Options::new("list", options);
        let prefix = options.text("prefix")?.unwrap_or_default();
        let after = options.text("cursor")?.unwrap_or_default();
        let limit = options.whole("limit")?.map_or(LIMIT_DEFAULT, |limit| u32::try_from(limit).unwrap_or(0));
        options.finish()?;
        let list = List { collection: &self.name, prefix: &prefix, limit, after: &after };
        let answer = host::call(HostOp::KvList, &list)?;
        let Page { entries, has_more } = answer.read();
        let mut page = Map::new();
        let cursor = entries.last().filter(|_| has_more).map_or(Dynamic::UNIT, |last| last.key.into());
        page.insert("cursor".into(), cursor);
        let items: Result<Array> = entries.iter().map(|entry| Ok(map(entry)?.into())).collect();
        page.insert("items".into(), items?.into());
        Ok(page)
    }
}

/// What a write may be given besides the value.
pub(crate) fn conditions(options: &mut Options<'_>) -> Result<(u64, Condition)> {
    let ttl_ms = options.seconds("ttl")?.unwrap_or(0);
    let is_absent = options.flag("if_absent")?.unwrap_or(false);
    let version = options.if_version()?;
    let condition = match (is_absent, version) {
        (true, Some(_)) => {
            return Err(failure("invalid_argument", "a write takes if_absent or if_version, not both"));
        }
        (true, None) => Condition::Absent,
        (false, Some(version)) => Condition::Version(version),
        (false, None) => Condition::None,
    };
    Ok((ttl_ms, condition))
}

fn value(json: Option<&str>) -> Result<Dynamic> {
    json.map_or(Ok(Dynamic::UNIT), convert::from_json_text)
}

fn map(entry: &Entry<'_>) -> Result<Map> {
    let mut map = Map::new();
    map.insert("key".into(), entry.key.into());
    map.insert("value".into(), convert::from_json_text(entry.value)?);
    map.insert("version".into(), (entry.version as i64).into());
    if let Some(expires_at_ms) = entry.expires_at_ms {
        map.insert("expires_at".into(), expires_at_ms.into());
    }
    Ok(map)
}
