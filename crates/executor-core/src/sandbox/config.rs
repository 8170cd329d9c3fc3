//! The wasmtime settings that compiler and runtime must share.
//!
//! `build.rs` includes this file, so that the guest is compiled for exactly the engine that will
//! run it; wasmtime refuses a module whose settings differ.

use wasmtime::{Config, WasmFeatures};

/// Stack of the guest's native code: room for the deepest call chain that `limits.rs` allows. Pages
/// that a script does not reach are never touched.
const WASM_STACK_BYTES: usize = 2 << 20;
/// Stack of a fiber: the guest's, and room for the imports that run on it.
const FIBER_STACK_BYTES: usize = WASM_STACK_BYTES + (256 << 10);

/// Settings for a guest that is deterministic and confined. It is metered by itself, not by the engine:
/// see the crate `metering`.
///
/// `memory_reservation` and the guard size stay at their defaults, 4 GiB and 32 MiB: they are what
/// lets a bad address fault instead of reading a neighbour (RUSTSEC-2026-0088).
pub(crate) fn shared_config() -> Config {
    let mut config = Config::new();
    config.max_wasm_stack(WASM_STACK_BYTES);
    config.async_stack_size(FIBER_STACK_BYTES);
    // Exactly what Rust emits. Named as a whole, because what is on by default differs between the
    // compiler's build of wasmtime and the worker's. SIMD had out-of-sandbox loads on x86-64 in
    // 2026; garbage collection and threads are code we do not need.
    config.wasm_features(WasmFeatures::all(), false);
    config.wasm_features(
        WasmFeatures::WASM2.difference(WasmFeatures::SIMD.union(WasmFeatures::GC_TYPES)),
        true,
    );
    // Filled when a guest starts, once in thousands of executions, a table needs no look at each call
    // through it. An interpreter calls through tables all the time.
    config.table_lazy_init(false);
    // Copy-on-write images need a file that stays open behind the jail. The worker writes all of a
    // guest's memory before each execution anyway, so they would save nothing.
    config.memory_init_cow(false);
    // Nobody reads a guest's backtrace, and collecting one takes time an attacker controls.
    config.wasm_backtrace_max_frames(None);
    config.generate_address_map(false);
    config
}
