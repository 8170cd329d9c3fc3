//! `invoke`: another script of the same app, now or later; and the pauses of `retry`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::allowance::Allowance;
use shared::call::{CallCode, CallError, HostCall, Reply};
use shared::host_call::invoke::{Form, Invoke, InvokeAsync, Returned, Wait};
use shared::host_call::queue::Accepted;
use shared::id::ExecutionId;
use shared::invocation::{
    ExecutionStatus, Invocation, Occasion, Outcome, Response, ScriptTarget, Work, WorkResult,
};
use shared::limits::{ATTEMPTS_MAX, QUEUE_DELAY_MS_MAX, TIMEOUT_MS_MIN};
use shared::name::ScriptName;

use super::{Services, args, begin};
use crate::data::messages::{check_message, not_accepted};
use crate::data::{Access, failed};
use crate::events::{DEPTH_MAX, Due, EventKind, NewEvent, Payload, RetryPolicy};
use crate::store;

/// What the called script sees as `ctx.event.function`, and its `args` as `ctx.args`.
#[derive(Serialize)]
struct About<'a> {
    args: &'a RawValue,
    /// The script that calls.
    caller: &'a str,
}

/// Runs a script and answers what it answered. It takes a slot of its own while its caller keeps one,
/// so it never waits for one that is taken: when none is free, and no worker comes that has one, the call is
/// refused, and nobody waits for somebody who waits for them.
pub(super) async fn now(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let Invoke { script, args: given } = args(call)?;
    check_asked_for(call)?;
    check_message(given)?;
    let context = &call.context;
    let cause = context.effect();
    if cause.depth > DEPTH_MAX {
        let message = format!("scripts call each other {DEPTH_MAX} deep at most");
        return Err(CallError::new(CallCode::BudgetExhausted, message));
    }
    let target = bounded(find(services, call, script).await?, call)?;
    let payload = payload(call, given)?;
    let occasion = Occasion {
        invocation_type: EventKind::Function.invocation_type(),
        cause,
        delivery: None,
        principal: context.principal,
        caller: None,
        http: None,
        event: Some(payload.as_bytes()),
    };
    let request_id = Arc::clone(&context.request_id);
    let mut invocation = Invocation::new(Arc::new(target), ExecutionId::new(), request_id, occasion);
    invocation.is_nested = true;
    // In a dry run, what the other script does belongs to it too.
    invocation.companion.clone_from(&context.companion);
    // What either of the two was told in confidence, neither may say.
    invocation.confidential = Some(Arc::clone(&context.confidential));
    (invocation.session, invocation.client) = (context.session, context.client);
    invocation.trace = context.trace.map(Box::new);
    let invoke = services.invoke.get().ok_or_else(|| CallError::new(CallCode::Unavailable, "not yet"))?;
    begin(call)?;
    match invoke.invoke(Work::Run(invocation)).await {
        WorkResult::Ran(outcome) => returned(script, outcome),
        WorkResult::Refused(refusal) => {
            Err(CallError::new(CallCode::Overloaded, format!("{script} was not started: {refusal}")))
        }
        WorkResult::Compiled { .. } | WorkResult::Rejected(_) | WorkResult::NotCompiled(_) => {
            Err(CallError::new(CallCode::Internal, "the platform failed"))
        }
    }
}

/// Writes down that a script is to be run.
pub(super) async fn later(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let InvokeAsync { script, args: given, delay_ms, attempts } = args(call)?;
    check_asked_for(call)?;
    check_message(given)?;
    if delay_ms > QUEUE_DELAY_MS_MAX {
        return Err(CallError::invalid(format!("a call can be delayed by {QUEUE_DELAY_MS_MAX} ms at most")));
    }
    if attempts > ATTEMPTS_MAX {
        return Err(CallError::invalid(format!("attempts is {attempts}; it may be 1 to {ATTEMPTS_MAX}")));
    }
    let context = &call.context;
    context.left.spend(Allowance::Events, 1)?;
    let target = find(services, call, script).await?;
    let cause = context.effect();
    let event =
        NewEvent::new(context.app(), target.script, EventKind::Function, cause, payload(call, given)?);
    let due = if delay_ms == 0 { Due::Now } else { Due::After(Duration::from_millis(delay_ms)) };
    let retry = match attempts {
        0 => RetryPolicy::default(),
        max_attempts => RetryPolicy { max_attempts, ..RetryPolicy::default() },
    };
    let event = NewEvent { due, retry, ..event };
    let id = event.delivery;
    let mut tx = services.data.begin(&Access::of_script(call)).await?;
    begin(call)?;
    let pending = services.outbox.insert(&mut tx, vec![event]).await.map_err(not_accepted)?;
    tx.commit(pending.into()).await?;
    Ok(Reply::success(&Accepted { id: id.to_bytes() }))
}

/// A pause between two attempts, which costs a script its time and nothing else.
pub(super) async fn wait(call: &HostCall) -> Result<Reply, CallError> {
    let Wait { ms } = args(call)?;
    let end = Instant::now() + Duration::from_millis(ms.min(QUEUE_DELAY_MS_MAX));
    if end >= call.context.deadline {
        let message = "the pause before the next attempt is longer than the script has left";
        return Err(CallError::new(CallCode::BudgetExhausted, message));
    }
    tokio::time::sleep_until(end.into()).await;
    Ok(Reply::success(&()))
}

/// Refuses what nobody was shown when the version was deployed: a script comes to the function by a name that it
/// puts together, too.
fn check_asked_for(call: &HostCall) -> Result<(), CallError> {
    if call.context.target.may_invoke {
        return Ok(());
    }
    let message = "the source does not name `invoke`, so that a deploy did not show that it calls other scripts; \
                   write `invoke(…)` or `invoke_async(…)` in it and deploy it again";
    Err(CallError::new(CallCode::Forbidden, message))
}

async fn find(services: &Services, call: &HostCall, script: &str) -> Result<ScriptTarget, CallError> {
    let missing = || {
        let shown: String = script.chars().take(80).collect();
        CallError::new(CallCode::NotFound, format!("the app has no script {shown:?} that can run by itself"))
    };
    let name: ScriptName = script.parse().map_err(|_| missing())?;
    let mut conn = services.data.acquire(&Access::of_script(call)).await?;
    let found = store::scripts::enabled_target(&mut conn, call.context.app(), &name).await;
    conn.answered(found).map_err(|error| failed(&error))?.ok_or_else(missing)
}

/// A script that is called has no more than its caller: neither fuel nor time beyond what is left.
fn bounded(mut target: ScriptTarget, call: &HostCall) -> Result<ScriptTarget, CallError> {
    let left = call.context.deadline.saturating_duration_since(Instant::now()).as_millis();
    let left = u32::try_from(left).unwrap_or(u32::MAX);
    if left < TIMEOUT_MS_MIN {
        return Err(CallError::new(CallCode::BudgetExhausted, "the script has no time left to call another"));
    }
    let limits = &mut target.limits;
    limits.timeout_ms = limits.timeout_ms.min(left);
    limits.fuel = limits.fuel.min(call.context.target.limits.fuel);
    Ok(target)
}

fn payload(call: &HostCall, given: &str) -> Result<Payload, CallError> {
    let read = serde_json::from_str(given).and_then(|args| {
        let about = About { args, caller: call.context.target.name.as_str() };
        Payload::new(EventKind::Function, &about)
    });
    read.map_err(|error| CallError::invalid(error.to_string()))
}

fn returned(script: &str, outcome: Outcome) -> Result<Reply, CallError> {
    let Outcome { status, response, failure, .. } = outcome;
    let Some(Response { status, headers, body }) = response.filter(|_| status == ExecutionStatus::Ok) else {
        let why = failure.map_or_else(String::new, |failure| format!(": {}", failure.message));
        return Err(CallError::new(
            CallCode::ScriptFailed,
            format!("{script} ended with {}{why}", status.as_str()),
        ));
    };
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let form = match kind.split(';').next().unwrap_or_default().trim() {
        "application/json" => Form::Json,
        kind if kind.starts_with("text/") && str::from_utf8(&body).is_ok() => Form::Text,
        _ => Form::Bytes,
    };
    Ok(Reply::success(&Returned { status: status.as_u16(), form, body: &body }))
}
