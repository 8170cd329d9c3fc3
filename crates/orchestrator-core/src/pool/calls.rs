//! Host calls of one execution: one at a time, counted, carried out beside the conversation.
//!
//! Who asks is looked up here, by worker, slot and generation; a frame says nothing of it.

use std::ops::Range;
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

/// What becomes of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answered {
    Given,
    /// This is said instead.
    Replaced(Reply),
    /// Nobody waits for it.
    Ungiven,
}

/// A call to be carried out.
#[derive(Debug)]
pub(super) struct Started {
    at: Place,
    /// Without its arguments, which are copied when the pool's lock is let go.
    call: HostCall,
    /// Where those lie in the bytes received.
    args: Range<usize>,
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
        // The worker counts these in the same order.
        if !self.budget.spend(Resource::Calls, 1) {
            return self.refuse(&format!("{HOST_CALLS_MAX} calls"));
        }
        if !self.budget.spend(Resource::CallBytes, call.args.len()) {
            return self.refuse(&format!("{HOST_CALLS_BYTES_MAX} bytes of arguments"));
        }
        if self.budget.is_exhausted(Resource::ReplyBytes) {
            // Before anything is done, as the answer would be lost. How long answers were that were not given the
            // worker cannot know, so these refusals end with the calls themselves.
            return Ok(Taken::Refused(over_budget(&format!("{HOST_CALLS_BYTES_MAX} bytes of answers"))));
        }
        let (awaited, abandoned) = oneshot::channel();
        self.calls.awaited = Some(awaited);
        if self.cancelled.is_some() {
            return Ok(Taken::Ignored);
        }
        let Some(context) = self.context() else {
            return Err(Violation::UnknownCall(call.op));
        };
        let args = 0..call.args.len();
        let (number, stage) = (self.calls.made, Arc::default());
        let call = HostCall { context, number, op, args: Vec::new(), stage };
        Ok(Taken::Started(Started { at, call, args, abandoned }))
    }

    fn refuse(&mut self, what: &str) -> Result<Taken, Violation> {
        if self.budget.spend(Resource::RefusedCalls, 1) {
            Ok(Taken::Refused(over_budget(what)))
        } else {
            Err(Violation::CallFlood)
        }
    }

    /// Whether the guest gets an answer, or what is said instead of one that is too long. Both have been work. The answer
    /// that uses the last bytes up is given whole: what it tells has happened.
    pub(super) fn answered(&mut self, reply: &Reply) -> Result<Answered, Violation> {
        if self.calls.awaited.take().is_none() {
            return Ok(Answered::Ungiven);
        }
        if reply.status == FORGED {
            return Err(Violation::Forged);
        }
        let bytes = reply.body.len();
        self.budget.spend_up_to(Resource::ReplyBytes, bytes);
        if bytes > HOST_REPLY_BYTES_MAX {
            let message = format!("the answer is over the limit of {HOST_REPLY_BYTES_MAX} bytes");
            return Ok(Answered::Replaced(Reply::failure(&CallError::new(CallCode::TooLarge, message))));
        }
        Ok(Answered::Given)
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
    /// Says where its frame ends in the bytes received: its arguments are the last of that.
    pub(super) fn ending_at(mut self, end: usize) -> Self {
        self.args = end - self.args.len()..end;
        self
    }

    /// Begins to carry it out, in a task of its own: the conversation goes on meanwhile.
    pub(super) fn carry_out(self, shared: &Arc<Shared>, received: &[u8]) {
        let Self { at, mut call, args, abandoned } = self;
        call.args = received[args].to_vec();
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use shared::id::UserId;
    use shared::ports::{BoxFuture, HostCalls};
    use shared::wire::codec;
    use shared::wire::frame::FromWorker;
    use tokio::sync::mpsc;

    use super::*;
    use crate::pool::connection::Start;
    use crate::pool::mode::Mode;
    use crate::pool::news::News;
    use crate::pool::recruit::PoolConfig;
    use crate::pool::sample;
    use crate::pool::verify::Isolation;

    /// Tells what it is asked.
    struct Service(mpsc::UnboundedSender<Vec<u8>>);

    impl HostCalls for Service {
        fn call(&self, call: HostCall) -> BoxFuture<'_, Reply> {
            self.0.send(call.args).unwrap();
            Box::pin(async { Reply::success(&()) })
        }
    }

    #[tokio::test]
    async fn arguments_are_not_copied_while_the_pool_is_locked_and_each_call_has_its_own() {
        let mut shared = sample::shared(&PoolConfig::new("/".into(), 1, 2).isolated(Mode::Shared));
        let (service, mut asked) = mpsc::unbounded_channel();
        shared.ports.calls = Arc::new(Service(service));
        let shared = Arc::new(shared);
        let (id, _) = shared.attach((1, 2, Isolation::NONE), true, None).unwrap();
        let (all_args, mut received) = ([b"a".to_vec(), vec![b'b'; 300]], Vec::new());
        for (slot, args) in (0..).zip(&all_args) {
            let job = sample::run(Mode::Shared, UserId::new());
            let start = Start { now: Instant::now(), at_us: 0, seed: [0; 16] };
            shared.lock().connections[0].start(job, start);
            let call = frame::HostCall { op: HostOp::KvGet as u16, args };
            codec::encode(&mut received, FromWorker::HostCall as u8, slot, 1, &call);
        }
        let mut news = News::default();
        assert_eq!(shared.accept(id, &received, &mut news), Ok(received.len()));
        assert!(news.calls.iter().all(|started| started.call.args.is_empty()));
        for started in news.calls {
            started.carry_out(&shared, &received);
        }
        let mut seen = [asked.recv().await.unwrap(), asked.recv().await.unwrap()];
        seen.sort();
        assert_eq!(seen, all_args);
    }
}
