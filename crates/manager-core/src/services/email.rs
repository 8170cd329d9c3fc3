//! `email`: mail, handed to the operator's server while the script waits.

use sha2::{Digest, Sha256};
use shared::allowance::Allowance;
use shared::call::{CallCode, CallError, HostCall, Reply};
use shared::host_call::email::{Send, Sent};
use tokio::time::Instant;

use super::{Services, args, begin};
use crate::budgets::Sending;
use crate::data::rehearsal::Rehearsal;
use crate::mail::{Letter, NotSent, PATIENCE};

/// Bytes of a digest that tell one mail of an execution from another.
const DIGEST_BYTES: usize = 8;

pub(super) async fn send(services: &Services, call: &HostCall) -> Result<Reply, CallError> {
    let send: Send<'_> = args(call)?;
    let invalid = |what: &dyn std::fmt::Display| CallError::invalid(format!("email::send: {what}"));
    let letter = Letter::read(&send).map_err(|error| invalid(&error))?;
    let sender = services.mail.server().map_err(not_sent)?.from();
    let (context, app) = (&call.context, call.context.app());
    context.left.spend(Allowance::Mails, 1)?;
    let id = message_id(call, sender.email.domain());
    let posted = letter.posted(sender, app, &id).map_err(|error| invalid(&error))?;
    if Rehearsal::of(call).is_some() {
        // What would be sent is noted, and answered as if it had been accepted.
        return Ok(Reply::success(&Sent { id: &id }));
    }
    begin(call)?;
    let begun = Instant::now();
    let deadline = (begun + PATIENCE).min(context.deadline.into());
    let spend = || services.budgets.spend(&context.target, Sending::Mail);
    services.mail.send((context.target.owner, app), &posted, deadline, spend).await.map_err(not_sent)?;
    // Neither whom it is for nor what it says is anybody's business.
    tracing::info!(
        app.id = %app,
        execution.id = %context.execution,
        mail.recipients = posted.recipients(),
        mail.bytes = posted.bytes(),
        duration_ms = begun.elapsed().as_millis(),
        "a mail was sent"
    );
    Ok(Reply::success(&Sent { id: &id }))
}

/// The same when a repeated delivery sends the same mail again, so that who gets it can tell.
fn message_id(call: &HostCall, domain: &str) -> String {
    let context = &call.context;
    let execution = || context.execution.to_string();
    let whose = context.delivery.map_or_else(execution, |delivery| delivery.id.to_string());
    let digest = Sha256::digest(&call.args);
    let mut what = [0; DIGEST_BYTES];
    what.copy_from_slice(&digest[..DIGEST_BYTES]);
    format!("<{whose}-{}-{:016x}@{domain}>", call.number, u64::from_be_bytes(what))
}

fn not_sent(error: NotSent) -> CallError {
    let code = match &error {
        NotSent::NotConfigured => CallCode::NotConfigured,
        NotSent::TooMany(_) => CallCode::Throttled,
        NotSent::OverBudget(_) => CallCode::BudgetExhausted,
        NotSent::Refused(_) => CallCode::Refused,
        NotSent::Deferred(_) | NotSent::Unreachable(_) | NotSent::Broken | NotSent::Timeout => {
            CallCode::Unavailable
        }
    };
    CallError::new(code, error.to_string())
}
