//! `base64`: the standard and the URL-safe alphabet.

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL_NOPAD, Encoding};
use rhai::{Blob, Dynamic, Engine, Module};

use crate::{Result, failure, with_bytes};

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("encode", |data: Dynamic| with_bytes(&data, |bytes| BASE64.encode(bytes)));
    module.set_native_fn("encode_url", |data: Dynamic| {
        with_bytes(&data, |bytes| BASE64URL_NOPAD.encode(bytes))
    });
    module.set_native_fn("decode", |text: &str| decode(&BASE64_NOPAD, text));
    module.set_native_fn("decode_url", |text: &str| decode(&BASE64URL_NOPAD, text));
    engine.register_static_module("base64", module.into());
}

/// With or without padding: both are met, and neither can be mistaken for something else.
fn decode(encoding: &Encoding, text: &str) -> Result<Blob> {
    let bare = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    encoding.decode(bare.as_bytes()).map_err(|error| failure("invalid_base64", error.to_string()))
}
