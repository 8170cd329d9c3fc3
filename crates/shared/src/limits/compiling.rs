//! What compiling a bundle may take, when it is deployed and when a worker loads it.

/// Fuel for compiling a bundle, about 2 s of CPU: a megabyte of ordinary source takes a tenth.
pub const COMPILE_FUEL: u64 = 20_000_000_000;
/// Wall clock for compiling a bundle, in milliseconds.
pub const COMPILE_TIMEOUT_MS: u32 = 10_000;
/// Memory for compiling a bundle, in MiB.
pub const COMPILE_MEMORY_MB: u32 = 64;
/// Memory that a byte of source can take while it is compiled, in bytes. The most that was found is 290 (`|a|a;`, again and
/// again); ordinary source takes a tenth.
pub const COMPILE_MEMORY_PER_BYTE: usize = 300;
