//! `kv::collection(name)`: values by key, kept by the platform.

use rhai::{Dynamic, Engine, ImmutableString, Module};
use shared::host_call::HostOp;
use shared::host_call::kv::{Condition, Found, Key, Set, Written};

use super::{Result, failure};
use crate::{convert, host};

/// The handle that scripts hold.
#[derive(Clone)]
struct Collection {
    name: ImmutableString,
}

pub(super) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("collection", |name: ImmutableString| Ok(Collection { name }));
    engine.register_static_module("kv", module.into());
    engine.register_type_with_name::<Collection>("KvCollection");
    engine.register_fn("get", |kv: &mut Collection, key: &str| kv.get(key));
    engine.register_fn("set", |kv: &mut Collection, key: &str, value: Dynamic| {
        kv.set(key, &value, 0, Condition::None)
    });
}

impl Collection {
    fn get(&self, key: &str) -> Result<Dynamic> {
        let answer = host::call(HostOp::KvGet, &Key { collection: &self.name, key })?;
        match answer.read::<Found<'_>>().value {
            Some(json) => parse(json),
            None => Ok(Dynamic::UNIT),
        }
    }

    fn set(&self, key: &str, value: &Dynamic, ttl_ms: u64, condition: Condition) -> Result<i64> {
        let value = stringify(value)?;
        let set = Set { collection: &self.name, key, value: &value, ttl_ms, condition };
        let Written { version } = host::call(HostOp::KvSet, &set)?.read();
        Ok(version as i64)
    }
}

fn parse(json: &str) -> Result<Dynamic> {
    convert::parse_json(json.as_bytes()).map_err(|error| failure("invalid_value", error.to_string()))
}

fn stringify(value: &Dynamic) -> Result<String> {
    let mut json = Vec::new();
    convert::write_json(&mut json, value).map_err(|error| failure("invalid_value", error.to_string()))?;
    String::from_utf8(json).map_err(|error| failure("invalid_value", error.to_string()))
}
