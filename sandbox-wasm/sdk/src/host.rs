//! The three imports, which are all that a guest can reach outside itself.

use std::sync::atomic::{AtomicBool, Ordering};

use rhai::EvalAltResult;
use shared::guest_abi;
use shared::host_call::{CallFailure, HostOp, TAKE_REPLY};
use shared::limits::HOST_CALL_BYTES_MAX;
use shared::wire::codec;

use crate::failure;

#[link(wasm_import_module = "picloud")]
unsafe extern "C" {
    /// Reads `len` bytes, or writes them for [`TAKE_REPLY`].
    fn host_call(op: u32, ptr: *const u8, len: usize) -> i64;
    fn clock() -> i64;
    fn entropy(ptr: *mut u8, len: usize);
}

/// Set when a run begins; the image from which runs start has it unset. The target has no threads.
static IS_RUNNING: AtomicBool = AtomicBool::new(false);

pub fn start_running() {
    IS_RUNNING.store(true, Ordering::Relaxed);
}

/// False while a bundle is loaded. What a module computes then is part of the image, so it must not
/// depend on when and where that is.
pub(crate) fn is_running() -> bool {
    IS_RUNNING.load(Ordering::Relaxed)
}

/// Tells the parent something and goes on.
pub(crate) fn notify<T: serde::Serialize>(op: HostOp, args: &T) {
    let mut bytes = Vec::new();
    codec::encode_body(&mut bytes, args);
    // SAFETY: pointer and length are those of a live buffer, which the host only reads.
    unsafe { host_call(u32::from(op as u16), bytes.as_ptr(), bytes.len()) };
}

/// Asks the parent for something and waits for the answer; fails as the parent says.
pub(crate) fn call<T: serde::Serialize>(op: HostOp, args: &T) -> Result<Answer, Box<EvalAltResult>> {
    if !is_running() {
        return Err(failure("unsupported", "a module's constants are computed when it is deployed"));
    }
    let mut bytes = Vec::new();
    codec::encode_body(&mut bytes, args);
    if bytes.len() > HOST_CALL_BYTES_MAX {
        let message = format!("the arguments of {} are over {HOST_CALL_BYTES_MAX} bytes", op.as_str());
        return Err(failure("too_large", message));
    }
    // SAFETY: pointer and length are those of a live buffer, which the host only reads.
    let packed = unsafe { host_call(u32::from(op as u16), bytes.as_ptr(), bytes.len()) };
    let (status, len) = guest_abi::unpack(packed as u64);
    bytes.clear();
    bytes.resize(len as usize, 0);
    // SAFETY: pointer and length are those of a live buffer that nothing else borrows.
    unsafe { host_call(u32::from(TAKE_REPLY), bytes.as_mut_ptr(), bytes.len()) };
    if status == 0 {
        return Ok(Answer { op, bytes });
    }
    let CallFailure { code, message } = codec::decode_body(&bytes).expect("the parent speaks our protocol");
    Err(failure(code, message))
}

/// What the parent answers.
pub(crate) struct Answer {
    op: HostOp,
    bytes: Vec<u8>,
}

impl Answer {
    /// The answer, whose type goes with the call: see [`HostOp`].
    pub(crate) fn read<'a, T: serde::Deserialize<'a>>(&'a self) -> T {
        codec::decode_body(&self.bytes).unwrap_or_else(|_| panic!("a strange answer to {}", self.op.as_str()))
    }
}

/// Milliseconds since the Unix epoch. The clock stands still while a script computes.
pub(crate) fn now_ms() -> i64 {
    // SAFETY: the import has no preconditions.
    unsafe { clock() }
}

/// Fills `bytes` from the execution's seed.
pub(crate) fn fill_random(bytes: &mut [u8]) {
    // SAFETY: pointer and length are those of a live buffer that nothing else borrows.
    unsafe { entropy(bytes.as_mut_ptr(), bytes.len()) };
}
