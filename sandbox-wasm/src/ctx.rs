//! `ctx`: everything a script learns about its execution.

use rhai::{Dynamic, Map};
use sdk::{convert, message};
use shared::guest_abi::{GuestDelivery, GuestHttp, GuestInput, GuestUser, InvocationType};

use crate::needs::Needs;

/// Builds what the bundle can read of `ctx`.
pub(crate) fn build(input: &GuestInput<'_>, needs: &Needs) -> Dynamic {
    let mut ctx = Map::new();
    let mut set = |name: &str, value: &dyn Fn() -> Dynamic| {
        if needs.member(name) {
            ctx.insert(name.into(), value());
        }
    };
    set("sdk_version", &|| shared::SDK_VERSION.into());
    set("execution_id", &|| convert::uuid_text(input.execution_id).into());
    set("request_id", &|| text(input.request_id));
    set("app", &|| text(input.app));
    set("script", &|| text(input.script));
    set("version", &|| i64::from(input.version).into());
    set("invocation_type", &|| input.invocation_type.as_str().into());
    set("trigger_depth", &|| i64::from(input.trigger_depth).into());
    set("limits", &|| limits(input).into());
    // Absent for a caller who is nobody in particular, as `ctx.event` is where there is none.
    if let Some(caller) = &input.user {
        set("user", &|| user(caller).into());
    }
    if let Some(event) = input.event {
        // The parent makes it, so it is JSON; anything else would be its fault and not the script's.
        set("event", &|| convert::parse_json(event).unwrap_or(Dynamic::UNIT));
        if input.invocation_type == InvocationType::Function {
            set("args", &|| args(event));
        }
    }
    if let Some(attempt) = &input.delivery {
        set("delivery", &|| delivery(attempt).into());
    }
    if let Some(http) = input.http.as_ref().filter(|_| needs.request()) {
        ctx.insert("request".into(), request(http, needs).into());
    }
    Dynamic::from_map(ctx)
}

fn user(caller: &GuestUser<'_>) -> Map {
    let mut user = Map::new();
    match *caller {
        GuestUser::Person { id, name } => {
            user.insert("id".into(), convert::uuid_text(id).into());
            user.insert("name".into(), text(name));
        }
        GuestUser::AppUser { id, login, roles, profile } => {
            user.insert("id".into(), convert::uuid_text(id).into());
            user.insert("login".into(), text(login));
            for (name, json) in [("roles", roles), ("profile", profile)] {
                // The parent makes it, as it makes the event.
                user.insert(name.into(), convert::parse_json(json.as_bytes()).unwrap_or(Dynamic::UNIT));
            }
        }
    }
    user
}

/// What another script was called with: short for `ctx.event.function.args`.
fn args(event: &[u8]) -> Dynamic {
    let event = convert::parse_json(event).unwrap_or(Dynamic::UNIT);
    let function = event.read_lock::<Map>().and_then(|event| event.get("function").cloned());
    let args = function.and_then(|function| function.read_lock::<Map>()?.get("args").cloned());
    args.unwrap_or(Dynamic::UNIT)
}

fn delivery(attempt: &GuestDelivery) -> Map {
    let mut delivery = Map::new();
    delivery.insert("id".into(), convert::uuid_text(attempt.id).into());
    delivery.insert("attempt".into(), i64::from(attempt.attempt).into());
    let replay_of = attempt.replay_of.map_or(Dynamic::UNIT, |id| convert::uuid_text(id).into());
    delivery.insert("replay_of".into(), replay_of);
    delivery
}

fn limits(input: &GuestInput<'_>) -> Map {
    let mut limits = Map::new();
    limits.insert("fuel".into(), i64::try_from(input.fuel).unwrap_or(i64::MAX).into());
    limits.insert("memory_mb".into(), i64::from(input.memory_mb).into());
    limits.insert("timeout_ms".into(), i64::from(input.timeout_ms).into());
    limits.insert("response_bytes".into(), i64::from(input.response_bytes).into());
    limits
}

fn request(http: &GuestHttp<'_>, needs: &Needs) -> Map {
    let mut request = Map::new();
    let mut set = |name: &str, value: &dyn Fn() -> Dynamic| {
        if needs.request_member(name) {
            request.insert(name.into(), value());
        }
    };
    set("method", &|| text(http.method));
    set("path", &|| text(http.path));
    set("rest", &|| text(http.rest));
    set("remote_ip", &|| text(http.remote_ip));
    set("params", &|| message::pairs(http.params, |_, new| new.to_owned()).into());
    // Of a repeated parameter the first counts, as in the URL standard's `get`.
    set("query", &|| message::pairs(http.query, |old, _| old.to_owned()).into());
    set("headers", &|| message::headers(http.headers).into());
    set("body", &|| message::body(message::content_type(http.headers), http.body));
    set("body_raw", &|| message::text_or_blob(http.body));
    request
}

fn text(utf8: &str) -> Dynamic {
    utf8.to_owned().into()
}
