//! `json::parse` and `json::stringify`.

use rhai::{Dynamic, Engine, Module};
use serde_json::Serializer;
use serde_json::ser::PrettyFormatter;

use crate::{Result, convert, failure, invalid};

/// More spaces than anybody indents by.
const INDENT_MAX: usize = 8;

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("parse", |text: &str| {
        convert::parse_json(text.as_bytes()).map_err(|error| failure("invalid_json", error.to_string()))
    });
    module.set_native_fn("stringify", |value: Dynamic| {
        let mut json = Vec::new();
        convert::write_json(&mut json, &value).map_err(unwritable)?;
        String::from_utf8(json).map_err(unwritable)
    });
    module.set_native_fn("stringify", |value: Dynamic, indent: i64| pretty(&value, indent));
    engine.register_static_module("json", module.into());
}

fn pretty(value: &Dynamic, indent: i64) -> Result<String> {
    let spaces =
        usize::try_from(indent).ok().and_then(|width| [b' '; INDENT_MAX].get(..width).map(<[u8]>::to_vec));
    let spaces =
        spaces.ok_or_else(|| invalid(format!("an indentation is 0 to {INDENT_MAX}, not {indent}")))?;
    let mut json = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut json, PrettyFormatter::with_indent(&spaces));
    convert::serialize_json(value, &mut serializer).map_err(unwritable)?;
    String::from_utf8(json).map_err(unwritable)
}

fn unwritable(error: impl ToString) -> Box<rhai::EvalAltResult> {
    failure("invalid_value", error.to_string())
}
