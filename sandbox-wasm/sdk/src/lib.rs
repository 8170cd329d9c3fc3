//! The SDK: one file per namespace, with its declarations beside it in `<namespace>.d.rhai`.
//!
//! It is a crate of its own because it is compiled for size, while the interpreter is compiled for speed: most of
//! an SDK function's time is its call of the parent. What the interpreter's side uses of it in each run is marked
//! `#[inline]`, which has the user compile it, for speed.

mod atomic;
mod base64;
pub mod convert;
mod dead_letters;
mod docs;
mod email;
mod files;
mod hash;
mod hex;
pub mod host;
mod http;
mod invoke;
mod json;
mod kv;
mod log;
pub mod message;
mod options;
mod pubsub;
mod queue;
mod random;
mod regex;
mod retry;
mod secrets;
mod time;
mod url;
mod users;
mod zones;

use rhai::{Dynamic, Engine, EvalAltResult, ImmutableString};

type Result<T> = std::result::Result<T, Box<EvalAltResult>>;

/// Gives an engine all namespaces.
pub fn register(engine: &mut Engine) {
    atomic::register(engine);
    base64::register(engine);
    dead_letters::register(engine);
    docs::register(engine);
    email::register(engine);
    files::register(engine);
    hash::register(engine);
    hex::register(engine);
    http::register(engine);
    invoke::register(engine);
    json::register(engine);
    kv::register(engine);
    log::register(engine);
    pubsub::register(engine);
    queue::register(engine);
    random::register(engine);
    regex::register(engine);
    retry::register(engine);
    secrets::register(engine);
    time::register(engine);
    url::register(engine);
    users::register(engine);
    // Rhai's own would block the thread, which no guest can do.
    engine.register_fn("sleep", |_: i64| -> Result<()> { Err(no_sleep()) });
    engine.register_fn("sleep", |_: f64| -> Result<()> { Err(no_sleep()) });
}

fn no_sleep() -> Box<EvalAltResult> {
    failure("unsupported", "a script cannot sleep; schedule a later run instead")
}

/// Fails while a bundle is loaded: a module's constants are computed once, when it is deployed.
fn require_run() -> Result<()> {
    if host::is_running() {
        return Ok(());
    }
    let message = "a module's constants are computed when it is deployed, without clock, chance or log";
    Err(failure("unsupported", message))
}

/// What every SDK function throws: `#{code, message}`.
pub(crate) fn failure(code: &str, message: impl Into<ImmutableString>) -> Box<EvalAltResult> {
    let mut map = rhai::Map::new();
    map.insert("code".into(), code.into());
    map.insert("message".into(), message.into().into());
    EvalAltResult::ErrorRuntime(map.into(), rhai::Position::NONE).into()
}

/// The failure of a call that was given what it cannot take.
fn invalid(message: impl Into<ImmutableString>) -> Box<EvalAltResult> {
    failure("invalid_argument", message)
}

/// Calls `function` with the bytes of a string or a blob.
fn with_bytes<T>(value: &Dynamic, function: impl FnOnce(&[u8]) -> T) -> Result<T> {
    if let Ok(text) = value.as_immutable_string_ref() {
        return Ok(function(text.as_bytes()));
    }
    match value.as_blob_ref() {
        Ok(blob) => Ok(function(&blob)),
        Err(kind) => Err(invalid(format!("expected a string or a blob, not {kind}"))),
    }
}
