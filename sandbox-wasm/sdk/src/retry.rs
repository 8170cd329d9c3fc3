//! `retry::run(#{attempts, backoff, base, cap}, || …)`: calls a function until it does not throw; and
//! `retry::fatal(message)`: an error that is not to be tried again, neither here nor by the platform.

use rhai::{Dynamic, Engine, EvalAltResult, FnPtr, Map, Module, NativeCallContext};
use shared::host_call::HostOp;
use shared::host_call::invoke::Wait;

use crate::options::Options;
use crate::{Result, failure, host};

const ATTEMPTS_DEFAULT: i64 = 3;
/// As many as an event may have.
const ATTEMPTS_MAX: i64 = 25;
/// Most scripts have ten seconds in all.
const BASE_MS_DEFAULT: u64 = 200;
const CAP_MS_DEFAULT: u64 = 5_000;
/// Codes of calls that fail alike however often they are made. `budget_exhausted` is none of them: 8 requests at
/// once, or a statement that waited for others, are over in a moment. Once the calls themselves are used up, there is
/// no pause either.
const HOPELESS: [&str; 5] = ["invalid_argument", "too_large", "forbidden", "refused", "not_configured"];
/// A pause grows by this with each attempt.
const FACTOR: u64 = 2;
/// A fifth of a pause is left to chance, so that what failed together does not come back together.
const JITTER: u64 = 5;

/// How often, and how long to wait between.
struct Policy {
    attempts: u64,
    base_ms: u64,
    cap_ms: u64,
    grows: bool,
}

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("run", |context: NativeCallContext<'_>, options: Map, function: FnPtr| {
        run(&context, &options, &function)
    });
    module.set_native_fn("fatal", |message: Dynamic| Ok(fatal(&message)));
    engine.register_static_module("retry", module.into());
}

fn run(context: &NativeCallContext<'_>, options: &Map, function: &FnPtr) -> Result<Dynamic> {
    let policy = Policy::read(options)?;
    let mut attempt = 1;
    loop {
        match function.call_within_context::<Dynamic>(context, ()) {
            Err(error) if attempt < policy.attempts && may_retry(&error) => {
                // Where no pause fits into the time left, what counts is why the function failed.
                if host::call(HostOp::RetryWait, &Wait { ms: policy.pause(attempt) }).is_err() {
                    return Err(error);
                }
                attempt += 1;
            }
            ended => return ended,
        }
    }
}

impl Policy {
    fn read(options: &Map) -> Result<Self> {
        let mut options = Options::new("retry::run", options);
        let wrong = |message: String| failure("invalid_argument", message);
        let attempts = options.whole("attempts")?.unwrap_or(ATTEMPTS_DEFAULT);
        if !(1..=ATTEMPTS_MAX).contains(&attempts) {
            return Err(wrong(format!("retry::run: attempts is {attempts}; it may be 1 to {ATTEMPTS_MAX}")));
        }
        let grows = match options.text("backoff")?.as_deref() {
            None | Some("exponential") => true,
            Some("fixed") => false,
            Some(_) => return Err(wrong("retry::run: backoff is exponential or fixed".to_owned())),
        };
        let base_ms = options.seconds("base")?.unwrap_or(BASE_MS_DEFAULT);
        let cap_ms = options.seconds("cap")?.unwrap_or(CAP_MS_DEFAULT);
        options.finish()?;
        Ok(Self { attempts: attempts.unsigned_abs(), base_ms, cap_ms, grows })
    }

    /// The pause after the attempt of this number, in milliseconds.
    fn pause(&self, attempt: u64) -> u64 {
        let factor = if self.grows { FACTOR.saturating_pow(attempt.min(62) as u32 - 1) } else { 1 };
        let middle = self.base_ms.saturating_mul(factor).min(self.cap_ms);
        let mut chance = [0; 4];
        host::fill_random(&mut chance);
        let spread = middle / JITTER * 2;
        middle - middle / JITTER
            + ((u128::from(u32::from_le_bytes(chance)) * u128::from(spread)) >> 32) as u64
    }
}

/// What a script throws may be tried again, unless it says otherwise or its code says that it is of no use. A limit
/// of the engine that was reached stays reached.
fn may_retry(error: &EvalAltResult) -> bool {
    match error {
        EvalAltResult::ErrorRuntime(value, _) => {
            value.read_lock::<Map>().is_none_or(|map| match map.get("retry").map(Dynamic::as_bool) {
                Some(Ok(may_retry)) => may_retry,
                _ => !map.get("code").is_some_and(is_hopeless),
            })
        }
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) | EvalAltResult::ErrorInModule(_, inner, _) => {
            may_retry(inner)
        }
        other => other.is_catchable(),
    }
}

fn is_hopeless(code: &Dynamic) -> bool {
    code.as_immutable_string_ref().is_ok_and(|code| HOPELESS.contains(&code.as_str()))
}

fn fatal(message: &Dynamic) -> Map {
    let mut map = Map::new();
    map.insert("code".into(), "fatal".into());
    map.insert("message".into(), message.to_string().into());
    map.insert("retry".into(), false.into());
    map
}
