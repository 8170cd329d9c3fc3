//! The guest: a Rhai engine with the SDK, compiled to WebAssembly.
//!
//! The worker instantiates this module, loads a bundle once and runs it many times, each time from
//! the same memory image. Nothing ambient is here: no clock, no randomness, no I/O but the three
//! imports in [`sdk::host`].

mod compare;
mod ctx;
mod engine;
mod exports;
mod imports;
mod known;
mod memory;
mod needs;
mod outcome;
mod room;
mod sort;

use std::cell::RefCell;

use shared::guest_abi::{GuestInput, GuestOutput, LoadReply, LoadRequest};
use shared::wire::codec;

use crate::engine::Guest;

/// Room that every image has for what an execution allocates. A memory that had to grow is not put back in
/// place but made anew, and most executions need less than this.
const HEADROOM_BYTES: usize = 64 << 10;

thread_local! {
    /// Built by [`init`] when the guest is built, so it is part of the module's memory image.
    static GUEST: RefCell<Option<Guest>> = const { RefCell::new(None) };
}

/// Builds the engine. Runs once, before the module is frozen.
fn init() {
    GUEST.with_borrow_mut(|guest| *guest = Some(Guest::new()));
}

/// Compiles a bundle and keeps it; `reply` becomes a [`LoadReply`].
fn load(request: &[u8], reply: &mut Vec<u8>) {
    GUEST.with_borrow_mut(|guest| {
        let guest = guest.as_mut().expect("the module was initialised when it was built");
        let request: LoadRequest<'_> = codec::decode_body(request).expect("the worker speaks our protocol");
        match guest.load(&request) {
            Ok(imports) => codec::encode_body(reply, &LoadReply::Loaded { imports }),
            Err(diagnostic) => codec::encode_body(
                reply,
                &LoadReply::Rejected {
                    script: &diagnostic.script,
                    line: diagnostic.line,
                    column: diagnostic.column,
                    message: &diagnostic.message,
                },
            ),
        }
    });
    // Taken and given back: the memory has grown for it, and it is free.
    drop(std::hint::black_box(Vec::<u8>::with_capacity(HEADROOM_BYTES)));
}

/// Runs the loaded bundle; `reply` becomes a [`GuestOutput`].
fn run(input: &[u8], reply: &mut Vec<u8>) {
    GUEST.with_borrow_mut(|guest| {
        let guest = guest.as_mut().expect("the module was initialised when it was built");
        let input: GuestInput<'_> = codec::decode_body(input).expect("the worker speaks our protocol");
        sdk::host::start_running();
        let outcome = guest.run(&input);
        let output: GuestOutput<'_> = outcome.as_output();
        codec::encode_body(reply, &output);
    });
}
