//! `json::parse` and `json::stringify`.

use rhai::{Dynamic, Engine, Module};

use super::failure;
use crate::convert;

pub(super) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("parse", |text: &str| {
        convert::parse_json(text.as_bytes()).map_err(|error| failure("invalid_json", error.to_string()))
    });
    module.set_native_fn("stringify", |value: Dynamic| {
        let mut json = Vec::new();
        convert::write_json(&mut json, &value)
            .map_err(|error| failure("invalid_value", error.to_string()))?;
        String::from_utf8(json).map_err(|error| failure("invalid_value", error.to_string()))
    });
    engine.register_static_module("json", module.into());
}
