//! The guest's three imports. This is all it can reach.

use std::future::poll_fn;
use std::task::Poll;

use shared::guest_abi::IMPORT_MODULE;
use shared::host_call::{ONE_WAY, REFUEL, TAKE_REPLY};
use shared::limits::{
    HOST_CALL_BYTES_MAX, HOST_CALL_REFUSALS_MAX, HOST_CALLS_BYTES_MAX, HOST_CALLS_MAX, LOG_BYTES_MAX,
    LOG_NOTICES_MAX, NOTICE_BYTES_MAX,
};
use shared::wire::codec;
use shared::wire::frame::{FromWorker, HostCall};
use wasmtime::{Caller, Error, Linker, Result, Trap};

use super::link::Reply;
use super::machine::GuestState;

/// Most random bytes one call may draw.
const ENTROPY_BYTES_MAX: usize = 64 << 10;
/// Fuel for a draw, however short: the way out here and back takes 0.1 µs, which the guest's own count of its
/// work does not see.
const ENTROPY_CALL_FUEL: u64 = 1_000;
/// Fuel for a random byte: a block of 32 takes 0.2 µs on processors that have no instructions for it.
const ENTROPY_BYTE_FUEL: u64 = 64;
/// More than what the arguments of a notice have beside text.
const NOTICE_FRAMING_BYTES: u32 = 32;

const _: () = assert!((LOG_BYTES_MAX + NOTICE_FRAMING_BYTES) as usize == NOTICE_BYTES_MAX);

pub(super) fn define(linker: &mut Linker<GuestState>) -> Result<()> {
    linker.func_wrap(IMPORT_MODULE, "clock", |caller: Caller<'_, GuestState>| caller.data().clock_ms)?;
    linker.func_wrap_async(IMPORT_MODULE, "entropy", |caller, (ptr, len): (u32, u32)| {
        Box::new(entropy(caller, ptr, len))
    })?;
    linker.func_wrap_async(IMPORT_MODULE, "host_call", |caller, (op, ptr, len): (u32, u32, u32)| {
        Box::new(host_call(caller, op, ptr, len))
    })?;
    Ok(())
}

async fn entropy(mut caller: Caller<'_, GuestState>, ptr: u32, len: u32) -> Result<()> {
    if len as usize > ENTROPY_BYTES_MAX {
        return Err(Error::msg("the guest asks for too much randomness at once"));
    }
    let memory = caller.data().memory()?;
    let (bytes, state) = memory.data_and_store_mut(&mut caller);
    if !state.tank.burn(ENTROPY_CALL_FUEL + u64::from(len) * ENTROPY_BYTE_FUEL) {
        return Err(Trap::OutOfFuel.into());
    }
    state.random.fill(slice_mut(bytes, ptr, len)?);
    if state.tank.is_turn_over() {
        give_way().await;
    }
    Ok(())
}

/// Lets others run.
async fn give_way() {
    let mut is_over = false;
    poll_fn(|context| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Answers `status << 32 | length of the reply`; the guest then fetches the reply by
/// [`TAKE_REPLY`]. One-way calls answer 0 at once.
async fn host_call(mut caller: Caller<'_, GuestState>, op: u32, ptr: u32, len: u32) -> Result<i64> {
    let op = u16::try_from(op).map_err(|_| Error::msg("no such host call"))?;
    if op == TAKE_REPLY {
        return take_reply(&mut caller, ptr, len);
    }
    if op == REFUEL {
        give_way().await;
        return caller.data_mut().tank.slice(ptr).ok_or_else(|| Trap::OutOfFuel.into());
    }
    // What the parent would kill the whole worker for ends this guest alone.
    let most = if op & ONE_WAY != 0 { NOTICE_BYTES_MAX } else { HOST_CALL_BYTES_MAX };
    if len as usize > most {
        return Err(Error::msg("the arguments of a host call are over the limit"));
    }
    let memory = caller.data().memory()?;
    let (bytes, state) = memory.data_and_store_mut(&mut caller);
    if op & ONE_WAY != 0 {
        if !state.may_notify(len) {
            return Ok(0);
        }
    } else if !state.may_call(len) {
        return Err(Error::msg("the guest goes on calling although it is refused"));
    }
    let args = slice_mut(bytes, ptr, len)?;
    let kind = if op & ONE_WAY != 0 { FromWorker::Notice } else { FromWorker::HostCall };
    state.link.write(|outbound| {
        codec::encode(outbound, kind as u8, state.slot, state.generation, &HostCall { op, args });
    });
    if op & ONE_WAY != 0 {
        return Ok(0);
    }
    let link = state.link.clone();
    let reply = poll_fn(|_| link.take_reply().map_or(Poll::Pending, Poll::Ready)).await;
    let packed = i64::from(reply.status) << 32 | i64::try_from(reply.body.len())?;
    caller.data_mut().reply = Some(reply);
    Ok(packed)
}

impl GuestState {
    /// Counts a notice; false when the parent would not keep it, and must not be kept busy with it. The first line
    /// that is too much for the log is passed on: it shows the parent that there were more.
    fn may_notify(&mut self, bytes: u32) -> bool {
        if self.notices == LOG_NOTICES_MAX || self.notice_bytes > LOG_BYTES_MAX {
            return false;
        }
        self.notices += 1;
        self.notice_bytes += bytes.saturating_sub(NOTICE_FRAMING_BYTES);
        true
    }

    /// Counts a call, in the way of the parent, which judges for itself: what that refuses is passed on to it.
    /// False when it would kill the worker for so many of those.
    fn may_call(&mut self, bytes: u32) -> bool {
        if self.calls < HOST_CALLS_MAX {
            self.calls += 1;
            if bytes <= HOST_CALLS_BYTES_MAX - self.call_bytes {
                self.call_bytes += bytes;
                return true;
            }
        }
        self.refused_calls += 1;
        self.refused_calls <= HOST_CALL_REFUSALS_MAX
    }
}

fn take_reply(caller: &mut Caller<'_, GuestState>, ptr: u32, len: u32) -> Result<i64> {
    let memory = caller.data().memory()?;
    let Some(Reply { body, .. }) = caller.data_mut().reply.take() else {
        return Err(Error::msg("the guest fetches a reply that is not there"));
    };
    if body.len() != len as usize {
        return Err(Error::msg("the guest's buffer is not of the reply's length"));
    }
    slice_mut(memory.data_mut(caller), ptr, len)?.copy_from_slice(&body);
    Ok(0)
}

fn slice_mut(bytes: &mut [u8], ptr: u32, len: u32) -> Result<&mut [u8]> {
    let start = ptr as usize;
    start
        .checked_add(len as usize)
        .and_then(|end| bytes.get_mut(start..end))
        .ok_or_else(|| Error::msg("the guest passes a buffer outside its memory"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::call::{CallCode, CallError};
    use shared::script::{Bundle, ScriptKind};
    use shared::wire::codec::{HEADER_BYTES, Header};
    use shared::wire::frame::{Done, Ending};

    use super::*;
    use crate::sandbox::{Job, Sandbox, TIME_SLICE_FUEL, Task, sample};
    use crate::scheduler::Scheduler;

    /// Far more than any of these scripts burns.
    const FUEL: u64 = 100_000_000_000;

    /// What a script came to, and what its parent was sent until then.
    struct Ran {
        ending: Ending,
        fuel: u64,
        turns: u64,
        /// Bytes of arguments of each.
        calls: Vec<usize>,
        notices: Vec<usize>,
    }

    /// Runs a script whose calls all fail.
    fn run(source: &str) -> Ran {
        let mut scheduler = Scheduler::new(Sandbox::load(1, None, 0).unwrap(), 64 << 20);
        let bundle = Bundle::single(ScriptKind::Endpoint, "script", source);
        scheduler.add_bundle(1, &sample::load_request(&bundle, 64)).unwrap();
        let task = Task::Run {
            fuel: FUEL,
            memory_bytes: 32 << 20,
            output_bytes: 1 << 20,
            clock_ms: 0,
            seed: [7; 16],
            input: sample::encoded(&sample::INPUT),
        };
        let job = Job { slot: 0, generation: 1, handle: 1, task };
        scheduler.start(job, Duration::from_secs(3600)).unwrap();
        let (mut turns, mut calls, mut notices) = (0, Vec::new(), Vec::new());
        let mut said = Vec::new();
        loop {
            assert!(scheduler.give_turn(&mut said).is_some(), "it waits for nothing");
            turns += 1;
            let mut rest = said.as_slice();
            while let Some(header) = Header::peek(rest) {
                let header = header.unwrap();
                let (body, after) = rest[HEADER_BYTES..].split_at(header.body_bytes as usize);
                rest = after;
                match FromWorker::from_number(header.kind).unwrap() {
                    FromWorker::Done => {
                        let Done { ending, fuel, .. } = codec::decode_body(body).unwrap();
                        return Ran { ending, fuel, turns, calls, notices };
                    }
                    FromWorker::Notice => notices.push(args_bytes(body)),
                    FromWorker::HostCall => {
                        calls.push(args_bytes(body));
                        scheduler.answer(0, 1, failure()).unwrap();
                    }
                    FromWorker::Hello => panic!("this comes once, before anything runs"),
                }
            }
            said.clear();
        }
    }

    fn args_bytes(body: &[u8]) -> usize {
        let HostCall { args, .. } = codec::decode_body(body).unwrap();
        args.len()
    }

    fn failure() -> Reply {
        let failure = shared::call::Reply::failure(&CallError::new(CallCode::NotFound, "not there"));
        Reply { status: failure.status, body: failure.body }
    }

    /// As many as the parent bears, which its own tests say: one more, and it would kill the worker.
    #[test]
    fn attack_who_goes_on_calling_is_ended_before_the_parent_has_to() {
        let ran = run("let c = kv::collection(\"c\"); loop { try { c.get(\"k\") } catch { } }");
        assert_eq!(ran.ending, Ending::Trapped);
        assert_eq!(ran.calls.len(), (HOST_CALLS_MAX + HOST_CALL_REFUSALS_MAX) as usize);
    }

    #[test]
    fn attack_who_goes_on_passing_a_megabyte_is_ended_before_the_parent_has_to() {
        let ran = run("let s = \"\"; s.pad(1000000, 'x'); let c = kv::collection(\"c\");
                       loop { try { c.set(\"k\", s) } catch { } }");
        assert_eq!(ran.ending, Ending::Trapped);
        let bytes = ran.calls[0];
        assert!(bytes >= 1_000_000 && ran.calls.iter().all(|call| *call == bytes), "{bytes}");
        let carried_out = HOST_CALLS_BYTES_MAX as usize / bytes;
        assert_eq!(ran.calls.len(), carried_out + HOST_CALL_REFUSALS_MAX as usize);
    }

    #[test]
    fn attack_long_lines_that_nobody_keeps_stay_in_the_worker() {
        let ran = run("let s = \"\"; s.pad(262144, 'x'); for i in 0..1000 { log::info(s); } 1");
        assert_eq!(ran.ending, Ending::Answered);
        let bytes: usize = ran.notices.iter().sum();
        assert!(bytes > LOG_BYTES_MAX as usize, "the parent must see that there was more, not {bytes}");
        assert!(bytes <= LOG_BYTES_MAX as usize + NOTICE_BYTES_MAX, "{bytes}");
    }

    #[test]
    fn lines_whose_text_fits_the_log_are_all_passed_on() {
        let ran = run("let s = \"\"; s.pad(262, 'x'); for i in 0..1000 { log::info(s); } 1");
        assert_eq!((ran.ending, ran.notices.len()), (Ending::Answered, 1_000));
        assert!(ran.notices.iter().sum::<usize>() > LOG_BYTES_MAX as usize, "their framing does not count");
    }

    /// Each element is a draw of eight bytes, and all of them are one operation.
    #[test]
    fn attack_64_many_small_draws_are_paid_for_and_give_others_their_turns() {
        let ran = run("let a = []; a.pad(100000, 1); random::shuffle(a).len()");
        assert_eq!(ran.ending, Ending::Answered);
        let price = 99_999 * (ENTROPY_CALL_FUEL + 8 * ENTROPY_BYTE_FUEL);
        assert!(ran.fuel >= price, "{} of {price}", ran.fuel);
        let slices = price / TIME_SLICE_FUEL;
        assert!(ran.turns > slices / 2, "{} turns for {slices} slices", ran.turns);
    }
}
