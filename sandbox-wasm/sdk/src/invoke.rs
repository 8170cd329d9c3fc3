//! `invoke(script, args)`: another script of the same app, now; and `invoke_async(script, args
//! [, #{delay, attempts}])`: later, once for sure.

use rhai::{Dynamic, Engine, Map};
use shared::host_call::HostOp;
use shared::host_call::invoke::{Form, Invoke, InvokeAsync, Returned};
use shared::host_call::queue::Accepted;

use crate::options::Options;
use crate::{Result, convert, failure, host};

/// From this status on an answer is a failure.
const FAILED_FROM: u16 = 400;

pub(crate) fn register(engine: &mut Engine) {
    engine.register_fn("invoke", |script: &str| invoke(script, &Dynamic::UNIT));
    engine.register_fn("invoke", |script: &str, args: Dynamic| invoke(script, &args));
    engine.register_fn("invoke_async", |script: &str| invoke_async(script, &Dynamic::UNIT, &Map::new()));
    engine
        .register_fn("invoke_async", |script: &str, args: Dynamic| invoke_async(script, &args, &Map::new()));
    engine.register_fn("invoke_async", |script: &str, args: Dynamic, options: Map| {
        invoke_async(script, &args, &options)
    });
}

/// Answers what the script returned. A response that is a failure is thrown, with status and body.
fn invoke(script: &str, args: &Dynamic) -> Result<Dynamic> {
    let args = convert::json_text(args)?;
    let answer = host::call(HostOp::Invoke, &Invoke { script, args: &args })?;
    let Returned { status, form, body } = answer.read();
    let value = match form {
        Form::Json => convert::from_json_text(&String::from_utf8_lossy(body))?,
        Form::Text => String::from_utf8_lossy(body).into_owned().into(),
        Form::Bytes => Dynamic::from_blob(body.to_vec()),
    };
    if status < FAILED_FROM {
        return Ok(value);
    }
    let mut error = failure("script_failed", format!("{script} answered with {status}"));
    if let rhai::EvalAltResult::ErrorRuntime(map, _) = &mut *error
        && let Some(mut map) = map.write_lock::<Map>()
    {
        map.insert("status".into(), i64::from(status).into());
        map.insert("body".into(), value);
    }
    Err(error)
}

/// Answers the id of the delivery.
fn invoke_async(script: &str, args: &Dynamic, options: &Map) -> Result<String> {
    let mut options = Options::new("invoke_async", options);
    let delay_ms = options.seconds("delay")?.unwrap_or(0);
    let attempts = options.whole("attempts")?.unwrap_or(0);
    options.finish()?;
    let attempts = u16::try_from(attempts).unwrap_or(u16::MAX);
    let args = convert::json_text(args)?;
    let call = InvokeAsync { script, args: &args, delay_ms, attempts };
    let Accepted { id } = host::call(HostOp::InvokeAsync, &call)?.read();
    Ok(convert::uuid_text(id))
}
