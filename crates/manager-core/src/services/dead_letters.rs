//! `dead_letters`: what was given up on, for scripts that run on behalf of somebody who may change
//! the app.

use serde_json::{Value, json};
use shared::allowance::Allowance;
use shared::call::{CallCode, CallError, HostCall, Reply};
use shared::host_call::dead_letters::{List, One, Shown};
use shared::host_call::queue::Accepted;
use shared::id::DeadLetterId;
use shared::limits::HOST_REPLY_BYTES_MAX;

use super::{Services, args, begin, require};
use crate::auth::Capability;
use crate::data::messages::not_accepted;
use crate::data::{Access, Told, failed};
use crate::events::{Payload, replay as replay_events};
use crate::store;
use crate::store::dead_letters::{DeadLetter, Filter, Resolution};

/// Dead letters that one call lists.
const LIMIT_MAX: u32 = 200;
/// The same as JSON: what an answer has room for beside its frame.
const LIST_BYTES_MAX: usize = HOST_REPLY_BYTES_MAX - 16;
const REASON_CHARS_MAX: usize = 2_000;

pub(super) async fn list(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let List { unresolved, limit } = args(call)?;
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(CallError::invalid(format!("limit is {limit}; it may be 1 to {LIMIT_MAX}")));
    }
    let mut conn = services.data.acquire(&Access::of_script(call)).await?;
    require(services, &mut conn, call, Capability::WriteApp).await?;
    let app = call.context.app();
    let newest = store::dead_letters::newest(&mut conn, app, unresolved, limit.into(), LIST_BYTES_MAX).await;
    let letters = conn.answered(newest).map_err(|error| failed(&error))?.ok_or_else(too_large)?;
    Ok(Reply::success(&Shown { json: &shown(&letters)? }))
}

/// Letters as JSON text, one after the other: parsed, each takes several times as much memory.
fn shown(letters: &[DeadLetter]) -> Result<String, CallError> {
    let mut json = String::from("[");
    for letter in letters {
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(&show(letter).to_string());
        if json.len() > LIST_BYTES_MAX {
            return Err(too_large());
        }
    }
    json.push(']');
    Ok(json)
}

fn too_large() -> CallError {
    let message = format!(
        "these dead letters are over the limit of {LIST_BYTES_MAX} bytes together; set a lower `limit`"
    );
    CallError::new(CallCode::TooLarge, message)
}

pub(super) async fn get(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let id = id(args::<One<'_>>(call)?.id)?;
    let mut conn = services.data.acquire(&Access::of_script(call)).await?;
    require(services, &mut conn, call, Capability::WriteApp).await?;
    let found = store::dead_letters::one(&mut conn, call.context.app(), id).await;
    // Absence is no failure.
    let shown = conn.answered(found).map_err(|error| failed(&error))?.as_ref().map_or(Value::Null, show);
    Ok(Reply::success(&Shown { json: &shown.to_string() }))
}

pub(super) async fn replay(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let id = id(args::<One<'_>>(call)?.id)?;
    let mut tx = services.data.begin(&Access::of_script(call)).await?;
    require(services, &mut tx, call, Capability::WriteApp).await?;
    let filter = Filter { id: Some(id), is_unresolved: true, ..Filter::default() };
    call.context.left.spend(Allowance::Events, 1)?;
    begin(call)?;
    let (app, depth) = (call.context.app(), call.context.effect().depth);
    let replay = replay_events(&mut tx, &services.outbox, app, &filter, None, depth).await;
    let replay = replay.map_err(not_accepted)?;
    let delivery = *replay.deliveries.first().ok_or_else(none_open)?;
    tx.commit(replay.pending.into()).await?;
    Ok(Reply::success(&Accepted { id: delivery.to_bytes() }))
}

pub(super) async fn resolve(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let One { id: text, reason } = args(call)?;
    let id = id(text)?;
    if reason.chars().count() > REASON_CHARS_MAX || reason.contains('\0') {
        return Err(CallError::invalid(format!(
            "a reason has {REASON_CHARS_MAX} characters at most, and no NUL"
        )));
    }
    let mut tx = services.data.begin(&Access::of_script(call)).await?;
    require(services, &mut tx, call, Capability::WriteApp).await?;
    begin(call)?;
    let (app, note) = (call.context.app(), Some(reason));
    let resolved = store::dead_letters::resolve(&mut tx, app, &[id], Resolution::HandledByScript, note).await;
    if resolved.map_err(|error| failed(&error))? == 0 {
        return Err(none_open());
    }
    tx.commit(Told::default()).await?;
    Ok(Reply::success(&()))
}

fn id(text: &str) -> Result<DeadLetterId, CallError> {
    text.parse().map_err(|_| CallError::invalid("this is no id of a dead letter"))
}

fn none_open() -> CallError {
    CallError::new(CallCode::NotFound, "the app has no open dead letter of this id")
}

fn show(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id,
        "delivery_id": letter.delivery_id,
        "kind": letter.kind,
        "trigger_id": letter.trigger_id,
        "script": letter.script,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "errors": letter.errors,
        "event": Payload::from_stored(letter.payload.clone()).to_json(),
        "failed_at": letter.failed_at,
        "resolution": letter.resolution,
        "resolved_at": letter.resolved_at,
    })
}
