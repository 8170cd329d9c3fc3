//! What the worker calls: four exports, and the two buffers it reaches into.

use std::cell::UnsafeCell;

use shared::guest_abi;

/// Where arguments arrive and answers are put: the two buffers the worker reaches into.
struct Buffers {
    input: Vec<u8>,
    output: Vec<u8>,
}

struct OneThread(UnsafeCell<Buffers>);

// SAFETY: the target has no threads, so nothing is ever shared between two of them.
unsafe impl Sync for OneThread {}

static BUFFERS: OneThread = OneThread(UnsafeCell::new(Buffers { input: Vec::new(), output: Vec::new() }));

#[unsafe(no_mangle)]
extern "C" fn picloud_init() {
    crate::init();
}

#[unsafe(no_mangle)]
extern "C" fn picloud_alloc(len: usize) -> *mut u8 {
    // SAFETY: the worker calls one export at a time, and no export keeps a borrow when it returns.
    let buffers = unsafe { &mut *BUFFERS.0.get() };
    buffers.input = Vec::with_capacity(len);
    buffers.input.as_mut_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn picloud_load(_ptr: *const u8, len: usize) -> u64 {
    // SAFETY: the worker has just written `len` bytes to the buffer it asked for by `picloud_alloc`.
    unsafe { answer(len, crate::load) }
}

#[unsafe(no_mangle)]
extern "C" fn picloud_run(_ptr: *const u8, len: usize) -> u64 {
    // SAFETY: the worker has just written `len` bytes to the buffer it asked for by `picloud_alloc`.
    unsafe { answer(len, crate::run) }
}

/// Passes the input buffer to `function` and packs where its answer lies.
///
/// # Safety
/// The first `len` bytes of the input buffer must have been written.
unsafe fn answer(len: usize, function: fn(&[u8], &mut Vec<u8>)) -> u64 {
    // SAFETY: the worker calls one export at a time; `function` never reaches these buffers.
    let buffers = unsafe { &mut *BUFFERS.0.get() };
    assert!(len <= buffers.input.capacity(), "the worker wrote past its buffer");
    // SAFETY: the caller promises that `len` bytes are written, and they are within the capacity.
    unsafe { buffers.input.set_len(len) };
    buffers.output.clear();
    function(&buffers.input, &mut buffers.output);
    // The target's addresses have 32 bits.
    guest_abi::pack(buffers.output.as_ptr() as u32, buffers.output.len() as u32)
}
