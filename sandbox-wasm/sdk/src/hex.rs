//! `hex`: two digits for a byte.

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use rhai::{Dynamic, Engine, Module};

use crate::{failure, with_bytes};

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("encode", |data: Dynamic| with_bytes(&data, |bytes| HEXLOWER.encode(bytes)));
    module.set_native_fn("decode", |text: &str| {
        let decoded = HEXLOWER_PERMISSIVE.decode(text.as_bytes());
        decoded.map_err(|error| failure("invalid_hex", error.to_string()))
    });
    engine.register_static_module("hex", module.into());
}
