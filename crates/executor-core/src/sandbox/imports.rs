//! The guest's three imports. This is all it can reach.

use std::future::poll_fn;
use std::task::Poll;

use shared::guest_abi::IMPORT_MODULE;
use shared::host_call::{ONE_WAY, REFUEL, TAKE_REPLY};
use shared::limits::{
    HOST_CALL_BYTES_MAX, HOST_CALL_REFUSALS_MAX, HOST_CALLS_MAX, LOG_NOTICES_MAX, NOTICE_BYTES_MAX,
};
use shared::wire::codec;
use shared::wire::frame::{FromWorker, HostCall};
use wasmtime::{Caller, Error, Linker, Result, Trap};

use super::link::Reply;
use super::machine::GuestState;

/// Most random bytes one call may draw.
const ENTROPY_BYTES_MAX: usize = 64 << 10;
/// A call that draws more than this is paid for and ends the time slice: the hashing is done out here,
/// where the guest's own count of its work does not see it.
const ENTROPY_BYTES_FREE: u32 = 256;
/// Fuel for a random byte: a block of 32 takes 0.2 µs on processors that have no instructions for it.
const ENTROPY_FUEL: u64 = 64;

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
    state.random.fill(slice_mut(bytes, ptr, len)?);
    if len > ENTROPY_BYTES_FREE {
        state.tank.burn(u64::from(len) * ENTROPY_FUEL);
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
        state.notices = state.notices.saturating_add(1);
        if state.notices > LOG_NOTICES_MAX {
            // The parent would not keep it, and must not be kept busy with it.
            return Ok(0);
        }
    } else {
        state.calls = state.calls.saturating_add(1);
        if state.calls > HOST_CALLS_MAX + HOST_CALL_REFUSALS_MAX {
            return Err(Error::msg("the guest goes on calling although it is refused"));
        }
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
