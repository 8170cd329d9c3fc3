//! Host calls of one execution: one at a time, counted, carried out beside the conversation.
//!
//! Who asks is looked up here, by worker, slot and generation; a frame says nothing of it.

use std::sync::Arc;

use shared::allowance::Left;
use shared::call::{CallCode, CallContext, CallError, FORGED, HostCall, Notes, Reply};
use shared::confidential::Confidential;
use shared::host_call::HostOp;
use shared::limits::{HOST_CALLS_BYTES_MAX, HOST_CALLS_MAX, HOST_REPLY_BYTES_MAX};
use shared::wire::codec::Header;
use shared::wire::frame;
use tokio::sync::oneshot;

use super::budget::Resource;
use super::execution::Execution;
use super::job::Task;
use super::state::Shared;
use super::violation::Violation;

/// Which execution, as long as it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) connection: u64,
    pub(super) slot: u16,
    pub(super) generation: u32,
}

/// The calls of an execution.
#[derive(Debug, Default)]
pub(super) struct Calls {
    made: u32,
    /// Made with the first call: most executions make none.
    context: Option<Arc<CallContext>>,
    /// There while an answer is awaited. Dropped, it tells the call that nobody waits any more.
    awaited: Option<oneshot::Sender<()>>,
}

impl Calls {
    pub(super) const fn count(&self) -> u32 {
        self.made
    }

    /// What must not be said of the execution, if it was told anything.
    pub(super) fn confidential(&self) -> Option<&Confidential> {
        self.context.as_deref().map(|context| &*context.confidential)
    }
}

/// What becomes of a call.
#[derive(Debug)]
pub(super) enum Taken {
    Started(Started),
    Refused(Reply),
    /// Its execution has been told to end and needs no answer.
    Ignored,
}

/// A call to be carried out.
#[derive(Debug)]
pub(super) struct Started {
    at: Place,
    call: HostCall,
    abandoned: oneshot::Receiver<()>,
}

impl Execution {
    /// Whether a call is in order at all.
    pub(super) fn may_call(&self, header: &Header) -> Result<(), Violation> {
        if self.waits_for_answer() {
            return Err(Violation::SecondCall(header.slot));
        }
        match self.job.task {
            Task::Run(_) => Ok(()),
            // What a compilation comes to must not depend on anything.
            Task::Compile => Err(Violation::Kind(header.kind)),
        }
    }

    pub(super) const fn waits_for_answer(&self) -> bool {
        self.calls.awaited.is_some()
    }

    pub(super) fn call(&mut self, at: Place, call: &frame::HostCall<'_>) -> Result<Taken, Violation> {
        let op = HostOp::from_number(call.op)
            .filter(|op| !op.is_one_way())
            .ok_or(Violation::UnknownCall(call.op))?;
        self.calls.made = self.calls.made.saturating_add(1);
        if !self.budget.spend(Resource::Calls, 1) {
            if !self.budget.spend(Resource::RefusedCalls, 1) {
                return Err(Violation::CallFlood);
            }
            return Ok(Taken::Refused(over_budget(&format!("{HOST_CALLS_MAX} calls"))));
        }
        if !self.budget.spend(Resource::CallBytes, call.args.len()) {
            return Ok(Taken::Refused(over_budget(&format!("{HOST_CALLS_BYTES_MAX} bytes of arguments"))));
        }
        let (awaited, abandoned) = oneshot::channel();
        self.calls.awaited = Some(awaited);
        if self.cancelled.is_some() {
            return Ok(Taken::Ignored);
        }
        let Some(context) = self.context() else {
            return Err(Violation::UnknownCall(call.op));
        };
        let call = HostCall {
            context,
            number: self.calls.made,
            op,
            args: call.args.to_vec(),
            stage: Arc::default(),
        };
        Ok(Taken::Started(Started { at, call, abandoned }))
    }

    /// What the guest gets of an answer; nothing when it waits for none.
    pub(super) fn answered(&mut self, reply: Reply) -> Result<Option<Reply>, Violation> {
        if self.calls.awaited.take().is_none() {
            return Ok(None);
        }
        if reply.status == FORGED {
            return Err(Violation::Forged);
        }
        Ok(Some(self.fitting(reply)))
    }

    /// The answer, or what is said instead of one that is too long.
    fn fitting(&mut self, reply: Reply) -> Reply {
        let bytes = reply.body.len();
        if bytes > HOST_REPLY_BYTES_MAX {
            let message = format!("the answer is over the limit of {HOST_REPLY_BYTES_MAX} bytes");
            return Reply::failure(&CallError::new(CallCode::TooLarge, message));
        }
        if !self.budget.spend(Resource::ReplyBytes, bytes) {
            return over_budget(&format!("{HOST_CALLS_BYTES_MAX} bytes of answers"));
        }
        reply
    }

    fn context(&mut self) -> Option<Arc<CallContext>> {
        let Task::Run(invocation) = &self.job.task else {
            return None;
        };
        let deadline = self.deadline;
        let context = self.calls.context.get_or_insert_with(|| {
            Arc::new(CallContext {
                execution: invocation.execution,
                request_id: invocation.request_id.clone(),
                target: invocation.target.clone(),
                principal: invocation.principal,
                session: invocation.session,
                client: invocation.client,
                cause: invocation.cause,
                delivery: invocation.delivery,
                trace: invocation.trace.as_deref().copied(),
                deadline,
                left: Left::default(),
                confidential: invocation.confidential.clone().unwrap_or_default(),
                companion: invocation.companion.clone(),
                notes: Notes::default(),
            })
        });
        Some(context.clone())
    }
}

impl Started {
    /// Begins to carry it out, in a task of its own: the conversation goes on meanwhile.
    pub(super) fn carry_out(self, shared: &Arc<Shared>) {
        let Self { at, call, abandoned } = self;
        let shared = shared.clone();
        tokio::spawn(async move {
            let mut awaited = Awaited { shared: &shared, at, is_answered: false };
            let (op, stage) = (call.op, call.stage.clone());
            let mut answer = shared.ports.calls.call(call);
            let reply = tokio::select! {
                reply = &mut answer => reply,
                _ = abandoned => {
                    if !stage.abandon() {
                        answer.await;
                    }
                    tracing::debug!(call = op.as_str(), "nobody waits for a host call any more");
                    awaited.is_answered = true;
                    return;
                }
            };
            awaited.is_answered = true;
            shared.answer(at, reply);
        });
    }
}

/// Sees to it that a call whose service panics is answered too.
struct Awaited<'a> {
    shared: &'a Shared,
    at: Place,
    is_answered: bool,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            let error = CallError::new(CallCode::Internal, "the platform failed");
            self.shared.answer(self.at, Reply::failure(&error));
        }
    }
}

fn over_budget(what: &str) -> Reply {
    let message = format!("an execution has {what} at most");
    Reply::failure(&CallError::new(CallCode::BudgetExhausted, message))
}
