//! One worker as the parent sees it: its slots, what runs in them, what is to be sent.
//!
//! Every check that a frame belongs where it claims to belong is here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::call::Reply;
use shared::host_call::HostOp;
use shared::id::AppId;
use shared::incident::Suspect;
use shared::limits::{HOST_CALL_BYTES_MAX, NOTICE_BYTES_MAX, RESULT_OVERHEAD_BYTES};
use shared::wire::codec::{self, Header};
use shared::wire::frame::{
    AddBundle, Compile, DropBundle, Execute, FromWorker, HostCall, HostReply, ToWorker,
};
use tokio::sync::Notify;

use super::admission::Queued;
use super::budget::Budget;
use super::calls::{Answered, Calls, Place, Started, Taken};
use super::execution::{Cancelled, Execution, GRACE};
use super::job::{Job, Task};
use super::library::Directory;
use super::outbound::{Outbound, Tail};
use super::spawner::Line;
use super::status::{WorkerState, WorkerStatus};
use super::stillness::{self, Stillness};
use super::suspicion::{self, Sole};
use super::tenancy::{Desk, Tenant};
use super::verify::Isolation;
use super::violation::{Unruly, Violation};

/// What a frame adds to the arguments of a call: its number and their length.
const CALL_OVERHEAD_BYTES: usize = 16;
/// A worker that is told to end, and has nothing left to do, needs some milliseconds to give back its memory.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Slot {
    generation: u32,
    execution: Option<Execution>,
}

/// What the execution starts with that only the parent can give.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    pub(super) now: Instant,
    /// Microseconds since the Unix epoch.
    pub(super) at_us: i64,
    pub(super) seed: [u8; 16],
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) pid: u32,
    /// Whom it serves; nobody yet when it is fresh.
    pub(super) tenant: Option<Tenant>,
    /// Since when it is at work.
    pub(super) employed: Instant,
    /// When it last had something to do.
    last_used: Instant,
    /// What those may have that run in it.
    pub(super) memory_mb: u64,
    slots: Vec<Slot>,
    /// Idle slots; the one used last is used next, because its memory is warm.
    free: Vec<u16>,
    directory: Directory,
    pub(super) outbound: Outbound,
    pub(super) wake: Arc<Notify>,
    pub(super) executed: u64,
    /// Gets no new work and ends when idle.
    pub(super) retiring: bool,
    /// When it is killed that was told to end.
    leave_by: Option<Instant>,
    /// Whether it sleeps while it has nothing to do.
    stillness: Stillness,
    /// It broke the protocol, and is about to be killed; or it hung up.
    pub(super) violation: Option<Violation>,
    /// Somebody is hired in its place already, before it is gone.
    pub(super) is_replaced: bool,
    /// It is there for one job of a maker, beyond the workers for load.
    pub(super) is_kept: bool,
    /// The walls around it.
    pub(super) isolation: Isolation,
    /// Whether it is in a control group of its own.
    pub(super) is_grouped: bool,
    /// Whose layout it has; none where it has one of its own.
    pub(super) line: Option<Line>,
    /// What ended in it last, to be suspected of what happens while nothing runs.
    pub(super) last: Option<Suspect>,
    /// What has been started in it.
    pub(super) sole: Sole,
}

impl Connection {
    pub(super) fn new(id: u64, (pid, slots, isolation): (u32, u16, Isolation), wake: Arc<Notify>) -> Self {
        Self {
            id,
            pid,
            tenant: None,
            employed: Instant::now(),
            last_used: Instant::now(),
            memory_mb: 0,
            slots: (0..slots).map(|_| Slot { generation: 0, execution: None }).collect(),
            free: (0..slots).rev().collect(),
            directory: Directory::default(),
            outbound: Outbound::default(),
            wake,
            executed: 0,
            retiring: false,
            leave_by: None,
            stillness: Stillness::default(),
            violation: None,
            is_replaced: false,
            is_kept: false,
            isolation,
            is_grouped: true,
            line: None,
            last: None,
            sole: Sole::default(),
        }
    }

    /// How it looks to a job: with one slot kept for makers. If there is but one, a worker is kept:
    /// see [`super::staff::Staff::keeping`].
    pub(super) fn desk(&self, is_for_maker: bool) -> Desk {
        let kept = usize::from(!is_for_maker && self.slots.len() > 1);
        Desk {
            tenant: self.tenant,
            room: if self.is_leaving() { 0 } else { self.free.len().saturating_sub(kept) },
            is_idle: self.is_idle(),
            is_leaving: self.is_leaving(),
            last_used: self.last_used,
        }
    }

    pub(super) fn status(&self) -> WorkerStatus {
        let (owner, app) = match self.tenant {
            Some(Tenant::Owner(owner)) => (Some(owner), None),
            Some(Tenant::App(app)) => (None, Some(app)),
            Some(Tenant::Anyone | Tenant::Script(_)) | None => (None, None),
        };
        let state = match (self.retiring, self.tenant, self.is_idle()) {
            (true, ..) => WorkerState::Leaving,
            (false, None, _) => WorkerState::Fresh,
            (false, Some(_), true) => WorkerState::Idle,
            (false, Some(_), false) => WorkerState::Busy,
        };
        let running = self.slots.len() - self.free.len();
        WorkerStatus { pid: self.pid, state, owner, app, running, executed: self.executed }
    }

    const fn is_leaving(&self) -> bool {
        self.retiring || self.violation.is_some()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    pub(super) fn running_for_makers(&self, app: AppId) -> usize {
        self.executions().filter(|execution| execution.job.is_for_maker && execution.job.app == app).count()
    }

    /// Puts a job into a free slot; there must be one.
    pub(super) fn start(&mut self, mut job: Job, start: Start) {
        let Some(index) = self.free.pop() else {
            return;
        };
        self.tenant = Some(job.tenant);
        self.stillness.busy();
        self.sole = self.sole.and(&job);
        self.memory_mb += u64::from(job.memory_mb());
        let lookup = self.directory.acquire(job.image.key, job.image.load.len());
        for handle in lookup.drop_first {
            self.outbound.push(ToWorker::DropBundle, 0, 0, &DropBundle { handle });
        }
        if lookup.must_add {
            let (add, load) = (AddBundle { handle: lookup.handle, load: &[] }, Tail::Shared(&job.image.load));
            self.outbound.push_ending(ToWorker::AddBundle, 0, 0, &add, load);
        }
        let timeout_ms = job.timeout_ms();
        let slot = &mut self.slots[usize::from(index)];
        slot.generation = slot.generation.wrapping_add(1);
        let (slot_no, generation) = (index, slot.generation);
        match &mut job.task {
            Task::Run(invocation) => {
                let limits = &invocation.target.limits;
                let execute = Execute {
                    handle: lookup.handle,
                    fuel: limits.fuel,
                    memory_bytes: limits.memory_mb << 20,
                    output_bytes: limits.response_bytes + u32::try_from(RESULT_OVERHEAD_BYTES).unwrap_or(0),
                    timeout_ms,
                    clock_ms: start.at_us / 1000,
                    seed: start.seed,
                    input: &[],
                };
                // Nobody reads it again.
                let input = Tail::Owned(&mut invocation.input);
                self.outbound.push_ending(ToWorker::Execute, slot_no, generation, &execute, input);
            }
            Task::Compile => {
                let compile = Compile { handle: lookup.handle, timeout_ms };
                self.outbound.push(ToWorker::Compile, slot_no, generation, &compile);
            }
        }
        slot.execution = Some(Execution {
            job,
            started: start.now,
            started_at_us: start.at_us,
            deadline: start.now + Duration::from_millis(timeout_ms.into()),
            cancelled: None,
            kill_at: start.now,
            logs: Vec::new(),
            budget: Budget::default(),
            calls: Calls::default(),
        });
    }

    /// How long a body this frame may have, known before any of it is taken in.
    pub(super) fn body_bytes_max(&self, header: &Header) -> Result<usize, Violation> {
        let execution = self.execution(header)?;
        match FromWorker::from_number(header.kind) {
            Some(FromWorker::Done) => Ok(execution.job.output_bytes() as usize + RESULT_OVERHEAD_BYTES + 64),
            Some(FromWorker::Notice) => Ok(NOTICE_BYTES_MAX + CALL_OVERHEAD_BYTES),
            Some(FromWorker::HostCall) => {
                execution.may_call(header)?;
                Ok(HOST_CALL_BYTES_MAX + CALL_OVERHEAD_BYTES)
            }
            // Hello comes once, before there is a connection.
            Some(FromWorker::Hello) | None => Err(Violation::Kind(header.kind)),
        }
    }

    /// Takes in a frame that is not the end of an execution.
    pub(super) fn notice(&mut self, header: &Header, body: &[u8]) -> Result<(), Violation> {
        let slot = &mut self.slots[usize::from(header.slot)];
        let execution = slot.execution.as_mut().ok_or(Violation::IdleSlot(header.slot))?;
        let HostCall { op, args } = codec::decode_body(body)?;
        match HostOp::from_number(op) {
            Some(HostOp::Log) => execution.log(&codec::decode_body(args)?),
            _ => Err(Violation::UnknownCall(op)),
        }
    }

    /// Takes in a host call; answers what is to be carried out. What is refused is answered at once.
    pub(super) fn call(&mut self, header: &Header, body: &[u8]) -> Result<Option<Started>, Violation> {
        let slot = &mut self.slots[usize::from(header.slot)];
        let execution = slot.execution.as_mut().ok_or(Violation::IdleSlot(header.slot))?;
        let at = Place { connection: self.id, slot: header.slot, generation: header.generation };
        match execution.call(at, &codec::decode_body(body)?)? {
            Taken::Started(started) => Ok(Some(started)),
            Taken::Refused(reply) => {
                write_reply(&mut self.outbound, header.slot, header.generation, reply);
                Ok(None)
            }
            Taken::Ignored => Ok(None),
        }
    }

    /// Hands over the answer to a call. Nobody waits for it when the execution has ended, and what comes at
    /// its deadline ends it: calls have that deadline too, and a script is not to catch that its time is over.
    ///
    /// What is not given comes back, to be dropped when the pool is locked no more: it may be large.
    pub(super) fn answer(&mut self, at: Place, reply: Reply) -> Option<Reply> {
        let now = Instant::now();
        let slot = self.slots.get_mut(usize::from(at.slot)).filter(|slot| slot.generation == at.generation);
        let Some(execution) = slot.and_then(|slot| slot.execution.as_mut()) else {
            return Some(reply);
        };
        let (ticket, is_overdue) = (execution.job.ticket, execution.is_overdue(now));
        let (given, ungiven) = match execution.answered(&reply) {
            Ok(Answered::Ungiven) => return Some(reply),
            Ok(_) if is_overdue => {
                self.cancel(ticket, Cancelled::Deadline, now);
                (None, Some(reply))
            }
            Ok(Answered::Given) => (Some(reply), None),
            Ok(Answered::Replaced(said)) => (Some(said), Some(reply)),
            Err(violation) => {
                self.violation = Some(violation);
                (None, Some(reply))
            }
        };
        if let Some(reply) = given {
            write_reply(&mut self.outbound, at.slot, at.generation, reply);
        }
        self.wake.notify_one();
        ungiven
    }

    /// Frees the slot of an execution that has ended.
    pub(super) fn end(&mut self, header: &Header, now: Instant) -> Result<Execution, Violation> {
        let slot = &mut self.slots[usize::from(header.slot)];
        let execution = slot
            .execution
            .take_if(|execution| !execution.waits_for_answer() || execution.cancelled.is_some())
            .ok_or(Violation::Unanswered(header.slot))?;
        self.free.push(header.slot);
        self.memory_mb -= u64::from(execution.job.memory_mb());
        self.executed += 1;
        self.last_used = now;
        if self.is_idle() {
            self.stillness.idle(now);
        }
        self.last = Some(suspicion::suspect(&execution));
        self.directory.release(execution.job.image.key);
        Ok(execution)
    }

    pub(super) fn cancel(&mut self, ticket: u64, reason: Cancelled, now: Instant) -> bool {
        for (index, slot) in (0u16..).zip(&mut self.slots) {
            if let Some(execution) =
                slot.execution.as_mut().filter(|execution| execution.job.ticket == ticket)
            {
                if execution.cancelled.is_none() {
                    execution.cancelled = Some(reason);
                    execution.kill_at = execution.deadline.max(now) + GRACE;
                    self.outbound.push(ToWorker::Cancel, index, slot.generation, &());
                }
                return true;
            }
        }
        false
    }

    /// When the conversation must look at the clock again.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let of_execution = self.executions().map(Execution::next_deadline).min();
        of_execution.into_iter().chain(self.leave_by).chain(self.stillness.next_look()).min()
    }

    /// Tells overdue executions to end. An error when only killing the worker helps: one of them ignored that for too
    /// long, or the worker does what nobody asked of it.
    pub(super) fn enforce_deadlines(&mut self, now: Instant) -> Result<(), Unruly> {
        let overdue: Vec<_> = self
            .executions()
            .filter(|execution| now >= execution.deadline && execution.cancelled.is_none())
            .map(|execution| execution.job.ticket)
            .collect();
        for ticket in overdue {
            self.cancel(ticket, Cancelled::Deadline, now);
        }
        if self.executions().any(|execution| execution.cancelled.is_some() && now >= execution.kill_at) {
            return Err(Unruly::Overdue);
        }
        if self.leave_by.is_some_and(|by| now >= by) {
            return Err(Unruly::Lingering);
        }
        let pid = self.pid;
        if self.stillness.look(now, || stillness::cpu_time(pid)) { Err(Unruly::Restless) } else { Ok(()) }
    }

    /// Gives it no more work, and ends it when it has none.
    pub(super) fn retire(&mut self) {
        if self.is_idle() && !self.retiring {
            self.stop();
            self.wake.notify_one();
        }
        self.retiring = true;
    }

    pub(super) fn stop(&mut self) {
        self.retiring = true;
        // At the end of a drain, what still runs is cut off by the end of this process.
        if self.is_idle() {
            self.leave_by.get_or_insert_with(|| Instant::now() + LEAVE_WITHIN);
            // Giving back all its memory is something to do.
            self.stillness.busy();
        }
        self.outbound.push(ToWorker::Stop, 0, 0, &());
    }

    pub(super) fn take_executions(&mut self) -> Vec<Execution> {
        self.slots.iter_mut().filter_map(|slot| slot.execution.take()).collect()
    }

    pub(super) fn executions(&self) -> impl Iterator<Item = &Execution> {
        // No further than the last one: each slot that is looked at is another line of the processor's cache.
        let running = self.slots.len() - self.free.len();
        self.slots.iter().filter_map(|slot| slot.execution.as_ref()).take(running)
    }

    fn execution(&self, header: &Header) -> Result<&Execution, Violation> {
        let slot = self.slots.get(usize::from(header.slot)).ok_or(Violation::NoSuchSlot(header.slot))?;
        if slot.generation != header.generation {
            return Err(Violation::Generation(header.slot));
        }
        slot.execution.as_ref().ok_or(Violation::IdleSlot(header.slot))
    }
}

fn write_reply(outbound: &mut Outbound, slot: u16, generation: u32, mut reply: Reply) {
    let (answer, body) = (HostReply { status: reply.status, body: &[] }, Tail::Owned(&mut reply.body));
    outbound.push_ending(ToWorker::HostReply, slot, generation, &answer, body);
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use shared::call::{FORGED, SUCCESS};
    use shared::host_call::{CallFailure, LogLevel, LogLine};
    use shared::id::UserId;
    use shared::limits::{
        COMPILE_TIMEOUT_MS, HOST_CALL_REFUSALS_MAX, HOST_CALLS_BYTES_MAX, HOST_REPLY_BYTES_MAX,
        LOG_BYTES_MAX, ScriptLimits,
    };
    use shared::wire::frame::{Done, Ending};

    use super::*;
    use crate::pool::budget::Resource;
    use crate::pool::mode::Mode;
    use crate::pool::news::News;
    use crate::pool::recruit::PoolConfig;
    use crate::pool::sample;

    fn run() -> Job {
        sample::run(Mode::Shared, UserId::new())
    }

    fn job() -> Job {
        sample::compilation(Mode::Shared, UserId::new())
    }

    /// A worker whose one execution began `ago` and waits for an answer.
    fn calling(ago: Duration) -> (Connection, Place) {
        let mut worker = Connection::new(1, (1, 2, Isolation::NONE), Arc::new(Notify::new()));
        worker.start(run(), Start { now: Instant::now() - ago, at_us: 0, seed: [0; 16] });
        let (slot, generation) = (0, worker.slots[0].generation);
        let mut call = Vec::new();
        codec::encode_body(&mut call, &HostCall { op: HostOp::KvGet as u16, args: &[] });
        let header = Header { body_bytes: 0, kind: FromWorker::HostCall as u8, slot, generation };
        worker.call(&header, &call).unwrap().unwrap();
        worker.outbound = Outbound::default();
        (worker, Place { connection: 1, slot, generation })
    }

    /// The kind of frame that is on its way to the worker when a call is answered of an execution that began `ago`.
    fn told_after(ago: Duration) -> u8 {
        let (mut worker, place) = calling(ago);
        worker.answer(place, Reply::success(&()));
        Header::peek(worker.outbound.unsent()).unwrap().unwrap().kind
    }

    #[test]
    fn what_is_answered_at_the_deadline_ends_the_execution_and_is_not_for_its_script_to_catch() {
        let timeout = Duration::from_millis(ScriptLimits::default().timeout_ms.into());
        assert_eq!(told_after(Duration::ZERO), ToWorker::HostReply as u8);
        assert_eq!(told_after(timeout), ToWorker::Cancel as u8);
    }

    #[test]
    fn an_answer_that_is_not_given_comes_back_to_be_freed_when_the_pool_is_locked_no_more() {
        let timeout = Duration::from_millis(ScriptLimits::default().timeout_ms.into());
        let longest = HOST_REPLY_BYTES_MAX;
        let reply = |status, bytes| Reply { status, body: vec![0; bytes] };
        for (ago, status, bytes, comes_back) in [
            (Duration::ZERO, SUCCESS, longest, false),
            (Duration::ZERO, SUCCESS, longest + 1, true),
            (Duration::ZERO, FORGED, longest, true),
            (timeout, SUCCESS, longest, true),
        ] {
            let (mut worker, place) = calling(ago);
            let ungiven = worker.answer(place, reply(status, bytes)).map(|reply| reply.body.len());
            assert_eq!(ungiven, comes_back.then_some(bytes), "{ago:?} {status} {bytes}");
            let next = Place { generation: place.generation + 1, ..place };
            for late in [place, next] {
                assert_eq!(worker.answer(late, reply(SUCCESS, 1)), Some(reply(SUCCESS, 1)), "{late:?}");
            }
        }
    }

    #[test]
    fn a_worker_was_used_until_its_last_execution_ended_however_long_ago_that_began() {
        let mut worker = Connection::new(1, (1, 2, Isolation::NONE), Arc::new(Notify::new()));
        let began = Instant::now();
        worker.start(run(), Start { now: began, at_us: 0, seed: [0; 16] });
        let (slot, generation) = (0, worker.slots[0].generation);
        let header = Header { body_bytes: 0, kind: FromWorker::Done as u8, slot, generation };
        let ended = began + Duration::from_secs(60);
        worker.end(&header, ended).unwrap();
        assert_eq!(worker.desk(false).last_used, ended);
    }

    fn execution() -> Execution {
        let mut worker = Connection::new(1, (1, 2, Isolation::NONE), Arc::new(Notify::new()));
        worker.start(run(), Start { now: Instant::now(), at_us: 0, seed: [0; 16] });
        worker.take_executions().remove(0)
    }

    /// An execution whose calls have so many bytes left, of arguments as of answers.
    fn with_bytes_left(bytes: usize) -> Execution {
        let mut execution = execution();
        for resource in [Resource::CallBytes, Resource::ReplyBytes] {
            assert!(execution.budget.spend(resource, HOST_CALLS_BYTES_MAX as usize - bytes));
        }
        execution
    }

    /// Makes a call with so many bytes of arguments.
    fn call(execution: &mut Execution, bytes: usize) -> Result<Taken, Violation> {
        let (at, args) = (Place { connection: 1, slot: 0, generation: 1 }, vec![0; bytes]);
        execution.call(at, &HostCall { op: HostOp::KvGet as u16, args: &args })
    }

    /// The same; answers how it is refused, if it is.
    fn refusal(execution: &mut Execution, bytes: usize) -> Option<Reply> {
        match call(execution, bytes).unwrap() {
            Taken::Started(_) => None,
            Taken::Refused(reply) => Some(reply),
            Taken::Ignored => panic!("it was told to end"),
        }
    }

    #[track_caller]
    fn is_over_budget(reply: &Reply) {
        let failure: CallFailure<'_> = codec::decode_body(&reply.body).unwrap();
        assert_eq!(failure.code, "budget_exhausted");
        assert!(failure.message.contains(&HOST_CALLS_BYTES_MAX.to_string()), "{failure:?}");
    }

    #[test]
    fn arguments_of_as_many_bytes_as_the_limit_are_taken_and_one_more_is_refused() {
        let mut execution = with_bytes_left(3);
        for bytes in [1, 2] {
            assert_eq!(refusal(&mut execution, bytes), None);
            assert_eq!(execution.answered(&Reply::success(&())), Ok(Answered::Given));
        }
        is_over_budget(&refusal(&mut execution, 1).unwrap());
        assert_eq!(refusal(&mut execution, 0), None, "only bytes are used up");
    }

    /// Makes a call that is answered with so many bytes; answers what the guest gets of them.
    fn answer(execution: &mut Execution, bytes: usize) -> Reply {
        assert_eq!(refusal(execution, 0), None);
        let reply = Reply { status: SUCCESS, body: vec![0; bytes] };
        match execution.answered(&reply).unwrap() {
            Answered::Given => reply,
            Answered::Replaced(said) => said,
            Answered::Ungiven => panic!("it waits for it"),
        }
    }

    #[test]
    fn the_answer_that_uses_up_the_bytes_is_given_and_no_call_is_started_after_it() {
        for last in [2, 3] {
            let mut execution = with_bytes_left(3);
            assert_eq!(answer(&mut execution, 1).body.len(), 1);
            assert_eq!(answer(&mut execution, last).body.len(), last);
            // The worker, which does not know how many these are, ends its guest for the calls.
            for _ in 0..2 * HOST_CALL_REFUSALS_MAX {
                is_over_budget(&refusal(&mut execution, 0).unwrap());
            }
        }
    }

    #[test]
    fn attack_an_answer_that_is_too_long_to_be_given_counts_as_long_as_it_was() {
        for left in [HOST_REPLY_BYTES_MAX, HOST_REPLY_BYTES_MAX + 1] {
            let mut execution = with_bytes_left(left);
            let too_long = answer(&mut execution, HOST_REPLY_BYTES_MAX + 1);
            let failure: CallFailure<'_> = codec::decode_body(&too_long.body).unwrap();
            assert_eq!(failure.code, "too_large");
            is_over_budget(&refusal(&mut execution, 0).unwrap());
        }
    }

    #[test]
    fn attack_calls_that_are_refused_for_their_arguments_have_an_end() {
        let mut execution = execution();
        let most = HOST_CALLS_BYTES_MAX as usize / HOST_CALL_BYTES_MAX;
        for _ in 0..most {
            assert_eq!(refusal(&mut execution, HOST_CALL_BYTES_MAX), None);
            assert_eq!(execution.answered(&Reply::success(&())), Ok(Answered::Given));
        }
        for _ in 0..HOST_CALL_REFUSALS_MAX {
            is_over_budget(&refusal(&mut execution, 1).unwrap());
        }
        assert_eq!(call(&mut execution, 1).unwrap_err(), Violation::CallFlood);
    }

    #[test]
    fn attack_log_lines_that_nobody_keeps_have_an_end() {
        let mut execution = execution();
        let message = "x".repeat(LOG_BYTES_MAX as usize - 1);
        let line = LogLine { level: LogLevel::Info, message: &message, data: "" };
        assert_eq!(execution.log(&line), Ok(()));
        // What shows that there was more, from an honest worker.
        assert_eq!(execution.log(&line), Ok(()));
        assert_eq!(execution.logs.len(), 2);
        assert_eq!(execution.log(&line), Err(Violation::NoticeFlood));
    }

    #[test]
    fn whoever_is_told_late_that_its_time_is_over_has_as_long_to_obey() {
        let (mut worker, now) =
            (Connection::new(1, (1, 2, Isolation::NONE), Arc::new(Notify::new())), Instant::now());
        worker.start(job(), Start { now, at_us: 0, seed: [0; 16] });
        let deadline = now + Duration::from_millis(COMPILE_TIMEOUT_MS.into());
        assert_eq!(worker.enforce_deadlines(now), Ok(()));
        assert_eq!(worker.next_deadline(), Some(deadline));
        // As after a pause of the whole process.
        let late = deadline + 2 * GRACE;
        assert_eq!(worker.enforce_deadlines(late), Ok(()), "it is told only now");
        assert_eq!(worker.next_deadline(), Some(late + GRACE));
        assert_eq!(worker.enforce_deadlines(late + GRACE / 2), Ok(()));
        assert_eq!(worker.enforce_deadlines(late + Duration::from_millis(249)), Ok(()));
        assert_eq!(worker.enforce_deadlines(late + Duration::from_millis(250)), Err(Unruly::Overdue));
        assert_eq!(worker.enforce_deadlines(late + GRACE), Err(Unruly::Overdue));
    }

    #[test]
    fn whoever_is_told_early_has_until_its_deadline() {
        let (mut worker, now) =
            (Connection::new(1, (1, 2, Isolation::NONE), Arc::new(Notify::new())), Instant::now());
        worker.start(job(), Start { now, at_us: 0, seed: [0; 16] });
        let deadline = now + Duration::from_millis(COMPILE_TIMEOUT_MS.into());
        assert!(worker.cancel(0, Cancelled::CallerLeft, now));
        assert_eq!(worker.enforce_deadlines(deadline), Ok(()));
        assert_eq!(worker.enforce_deadlines(deadline + GRACE), Err(Unruly::Overdue));
    }

    #[test]
    fn attack_49_who_is_told_to_leave_and_stays_is_killed() {
        let mut worker = Connection::new(1, (1, 2, Isolation::NONE), Arc::new(Notify::new()));
        worker.retire();
        let leave_by = worker.next_deadline().unwrap();
        worker.stop();
        assert_eq!(worker.next_deadline(), Some(leave_by), "however often it is told");
        assert_eq!(worker.enforce_deadlines(leave_by - LEAVE_WITHIN / 2), Ok(()));
        assert_eq!(worker.enforce_deadlines(leave_by), Err(Unruly::Lingering));
    }

    #[test]
    fn a_worker_is_looked_at_when_its_last_execution_has_ended_and_not_before() {
        let mut worker = Connection::new(1, (u32::MAX, 2, Isolation::NONE), Arc::new(Notify::new()));
        assert_eq!(worker.next_deadline(), None, "nothing has run in a fresh one");
        let now = Instant::now();
        for _ in 0..2 {
            worker.start(run(), Start { now, at_us: 0, seed: [0; 16] });
        }
        let headers: Vec<Header> = (0..2_u16)
            .map(|slot| {
                let generation = worker.slots[usize::from(slot)].generation;
                Header { body_bytes: 0, kind: FromWorker::Done as u8, slot, generation }
            })
            .collect();
        worker.end(&headers[0], now).unwrap();
        assert_eq!(worker.stillness.next_look(), None, "the other one runs");
        worker.end(&headers[1], now).unwrap();
        let look = worker.next_deadline().unwrap();
        assert_eq!(worker.enforce_deadlines(look), Ok(()));
        assert_eq!(worker.next_deadline(), None, "no such process can be seen");
    }

    #[test]
    fn who_is_told_to_leave_may_burn_cpu_until_it_has_to_be_gone() {
        let pid = std::process::id();
        let mut worker = Connection::new(1, (pid, 2, Isolation::NONE), Arc::new(Notify::new()));
        worker.start(run(), Start { now: Instant::now(), at_us: 0, seed: [0; 16] });
        let header = Header { body_bytes: 0, kind: FromWorker::Done as u8, slot: 0, generation: 1 };
        worker.end(&header, Instant::now()).unwrap();
        let look = worker.next_deadline().unwrap();
        assert_eq!(worker.enforce_deadlines(look), Ok(()));
        worker.retire();
        let seen = stillness::cpu_time(pid).unwrap();
        let mut burnt = 0_u64;
        // More than one that only has nothing to do may burn.
        while stillness::cpu_time(pid).unwrap() < seen + Duration::from_millis(25) {
            burnt = std::hint::black_box(burnt + 1);
        }
        assert_eq!(worker.enforce_deadlines(look + Duration::from_secs(1)), Ok(()));
        let leave_by = worker.next_deadline().unwrap();
        assert_eq!(worker.enforce_deadlines(leave_by), Err(Unruly::Lingering));
    }

    /// What the pool makes of a worker's first twelve bytes about its one execution, which announce so long a body.
    fn announced(kind: FromWorker, body_bytes: usize) -> Result<usize, Violation> {
        let shared = sample::shared(&PoolConfig::new("/".into(), 1, 2).isolated(Mode::Shared));
        let mut worker = Connection::new(1, (1, 2, Isolation::NONE), Arc::new(Notify::new()));
        worker.start(run(), Start { now: Instant::now(), at_us: 0, seed: [0; 16] });
        shared.lock().connections.push(worker);
        let [a, b, c, d] = u32::try_from(body_bytes).unwrap().to_le_bytes();
        let (slot, [e, f, g, h]) = (0, 1_u32.to_le_bytes());
        shared.accept(1, &[a, b, c, d, kind as u8, 0, slot, slot, e, f, g, h], &mut News::default())
    }

    fn encoded_bytes(body: &impl Serialize) -> usize {
        let mut bytes = Vec::new();
        codec::encode_body(&mut bytes, body);
        bytes.len()
    }

    #[test]
    fn the_longest_body_of_each_kind_is_awaited_and_one_byte_more_ends_the_worker() {
        let output = vec![0; ScriptLimits::default().response_bytes as usize + RESULT_OVERHEAD_BYTES];
        let (line, args) = (vec![0; NOTICE_BYTES_MAX], vec![0; HOST_CALL_BYTES_MAX]);
        let done = Done {
            ending: Ending::OutputTooLarge,
            fuel: u64::MAX,
            load_fuel: u64::MAX,
            peak_memory_bytes: u64::MAX,
            output: &output,
        };
        let (notice, call) = (HostCall { op: u16::MAX, args: &line }, HostCall { op: u16::MAX, args: &args });
        for (kind, honest, longest) in [
            (FromWorker::Done, encoded_bytes(&done), output.len() + 64),
            (FromWorker::Notice, encoded_bytes(&notice), line.len() + CALL_OVERHEAD_BYTES),
            (FromWorker::HostCall, encoded_bytes(&call), args.len() + CALL_OVERHEAD_BYTES),
        ] {
            assert!(honest <= longest, "{kind:?}");
            assert_eq!(announced(kind, longest), Ok(0), "{kind:?}");
            let over = u32::try_from(longest + 1).unwrap();
            assert_eq!(announced(kind, longest + 1), Err(Violation::TooLong(over)), "{kind:?}");
        }
        let hello = FromWorker::Hello;
        assert_eq!(announced(hello, 0), Err(Violation::Kind(hello as u8)));
    }
}
