//! `dead_letters::list([#{unresolved, limit}]) get(id) replay(id) resolve(id, reason)`: for scripts that
//! run on behalf of somebody who may manage the app.

use rhai::{Dynamic, Engine, Map, Module};
use shared::host_call::HostOp;
use shared::host_call::dead_letters::{List, One, Shown};
use shared::host_call::queue::Accepted;

use crate::options::Options;
use crate::{Result, convert, host};

const LIMIT_DEFAULT: i64 = 50;

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("list", || list(&Map::new()));
    module.set_native_fn("list", |options: Map| list(&options));
    module.set_native_fn("get", |id: &str| {
        let answer = host::call(HostOp::DeadLettersGet, &One { id, reason: "" })?;
        convert::from_json_text(answer.read::<Shown<'_>>().json)
    });
    module.set_native_fn("replay", |id: &str| {
        let Accepted { id } = host::call(HostOp::DeadLettersReplay, &One { id, reason: "" })?.read();
        Ok(convert::uuid_text(id))
    });
    module.set_native_fn("resolve", |id: &str, reason: &str| {
        host::call(HostOp::DeadLettersResolve, &One { id, reason })?;
        Ok(())
    });
    engine.register_static_module("dead_letters", module.into());
}

fn list(options: &Map) -> Result<Dynamic> {
    let mut options = Options::new("dead_letters::list", options);
    let unresolved = options.flag("unresolved")?.unwrap_or(true);
    let limit = options.whole("limit")?.unwrap_or(LIMIT_DEFAULT);
    options.finish()?;
    let limit = u32::try_from(limit).unwrap_or(0);
    let answer = host::call(HostOp::DeadLettersList, &List { unresolved, limit })?;
    convert::from_json_text(answer.read::<Shown<'_>>().json)
}
