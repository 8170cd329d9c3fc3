//! `log::trace info warn error (message [, data])`: lines kept with the execution.

use rhai::{Dynamic, Engine, Module};
use shared::host_call::{HostOp, LogLevel, LogLine};
use shared::limits::LOG_BYTES_MAX;

use crate::{Result, convert, host};

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("trace", |message: Dynamic| say(LogLevel::Trace, &message));
    module
        .set_native_fn("trace", |message: Dynamic, data: Dynamic| say_with(LogLevel::Trace, &message, &data));
    module.set_native_fn("info", |message: Dynamic| say(LogLevel::Info, &message));
    module.set_native_fn("info", |message: Dynamic, data: Dynamic| say_with(LogLevel::Info, &message, &data));
    module.set_native_fn("warn", |message: Dynamic| say(LogLevel::Warn, &message));
    module.set_native_fn("warn", |message: Dynamic, data: Dynamic| say_with(LogLevel::Warn, &message, &data));
    module.set_native_fn("error", |message: Dynamic| say(LogLevel::Error, &message));
    module
        .set_native_fn("error", |message: Dynamic, data: Dynamic| say_with(LogLevel::Error, &message, &data));
    engine.register_static_module("log", module.into());
    engine.on_print(|text| write(LogLevel::Info, text, ""));
    engine.on_debug(|text, _, _| write(LogLevel::Trace, text, ""));
}

fn say(level: LogLevel, message: &Dynamic) -> Result<()> {
    crate::require_run()?;
    write(level, &message.to_string(), "");
    Ok(())
}

fn say_with(level: LogLevel, message: &Dynamic, data: &Dynamic) -> Result<()> {
    crate::require_run()?;
    let mut json = Vec::new();
    if convert::write_json(&mut json, data).is_err() {
        // A log call must not fail over a value that JSON cannot say.
        json = serde_json::to_vec(&data.to_string()).unwrap_or_default();
    }
    write(level, &message.to_string(), &String::from_utf8_lossy(&json));
    Ok(())
}

fn write(level: LogLevel, message: &str, data: &str) {
    // `print` and `debug` cannot fail.
    if !host::is_running() {
        return;
    }
    host::notify(HostOp::Log, &fitting(LogLine { level, message, data }));
}

/// A line that is longer than a whole log is of no use whole: only so much of it is sent that the
/// parent sees it is too long, and says so in its place.
fn fitting(line: LogLine<'_>) -> LogLine<'_> {
    let most = LOG_BYTES_MAX as usize;
    if line.message.len() + line.data.len() <= most {
        return line;
    }
    let end = line.message.ceil_char_boundary(most + 1);
    let message = &line.message[..end];
    let end = line.data.ceil_char_boundary((most + 1).saturating_sub(message.len()));
    LogLine { message, data: &line.data[..end], ..line }
}
