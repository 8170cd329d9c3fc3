//! `time::now_ms`: the execution's clock, which stands still while the script computes.

use rhai::{Engine, Module};

use crate::host;

pub(super) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("now_ms", || {
        super::require_run()?;
        Ok(host::now_ms())
    });
    engine.register_static_module("time", module.into());
}
