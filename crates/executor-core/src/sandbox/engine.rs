//! The engine and the embedded guest, ready to be instantiated.

use std::num::NonZero;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wasmtime::{Engine, InstanceAllocationStrategy, InstancePre, Linker, Module, PoolingAllocationConfig};

use super::code::InPlace;
use super::config::shared_config;
use super::guard::page_bytes;
use super::huge;
use super::imports;
use super::machine::GuestState;

/// The guest as native code, made by `build.rs`. It runs where it lies in this executable: all workers share
/// its pages, and what is never run is never read.
static GUEST: &Pages<[u8]> = &Pages(*include_bytes!(concat!(env!("OUT_DIR"), "/guest.cwasm")));

/// Hash of the guest's WebAssembly: executions are pinned to it.
pub(crate) const GUEST_SHA256: [u8; 32] = *include_bytes!(concat!(env!("OUT_DIR"), "/guest.sha256"));

/// Largest linear memory of any guest; each execution has its own, smaller cap.
const MEMORY_BYTES_MAX: usize = (shared::limits::MEMORY_MB_MAX as usize) << 20;
/// Functions the guest calls indirectly; the exact number is checked when it is instantiated.
const TABLE_ELEMENTS_MAX: usize = 20_000;
/// Bookkeeping of one instance.
const INSTANCE_BYTES_MAX: usize = 1 << 20;

/// Whether the guest runs there already: a process that loads it again, as tests do, gets a copy.
static IN_USE: AtomicBool = AtomicBool::new(false);

/// Aligned to pages of any size a kernel may have: access rights are given by the page.
#[repr(C, align(65536))]
struct Pages<Bytes: ?Sized>(Bytes);

#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    #[error("no address space for even one slot: {0}")]
    AddressSpace(#[source] wasmtime::Error),
    #[error("the embedded guest does not load: {0}")]
    Guest(#[source] wasmtime::Error),
}

/// Everything needed to make instances of the guest.
pub(crate) struct Sandbox {
    pub(crate) engine: Engine,
    pub(crate) guest: InstancePre<GuestState>,
    /// Where its code is, and whatever else is executable because of it.
    pub(crate) code: Range<usize>,
    pub(crate) slots: u16,
    /// In which the kernel protects memory: 4 KiB, on some ARM boards 16 or 64 KiB.
    pub(crate) page_bytes: usize,
}

impl Sandbox {
    /// Reserves address space for `slots` guests, or for as many as this machine has room for:
    /// boards with 39-bit addresses have less of it than servers. `code` is the guest's as the parent published it,
    /// and `code_at` where it is wanted; 0 is anywhere.
    pub(crate) fn load(slots: u16, code: Option<&OwnedFd>, code_at: u64) -> Result<Self, SandboxError> {
        let at = usize::try_from(code_at).ok().and_then(NonZero::new);
        // It is quicker there, and the same here.
        let published = code.and_then(|code| huge::map(code, GUEST.0.len(), at).ok());
        let place = published.map(|pages| pages.addr().get()..pages.addr().get() + pages.len());
        let memory = Arc::new(InPlace::new(place));
        let (engine, slots) = reserve(slots.max(1), &memory)?;
        let guest = published.map_or_else(
            || NonNull::from(&GUEST.0),
            |pages| NonNull::slice_from_raw_parts(pages.cast(), GUEST.0.len()),
        );
        // SAFETY: the bytes are what `build.rs` got from this version of wasmtime for this target. They are
        // part of this executable, or of a sealed copy that the parent made of its own, which is the same
        // executable; so they are there to the end, and whoever could change them could change this code.
        let module = unsafe {
            // The engine finds code by its place, where only one module can be.
            if IN_USE.swap(true, Ordering::Relaxed) {
                Module::deserialize(&engine, &GUEST.0)
            } else {
                Module::deserialize_raw(&engine, guest)
            }
        };
        let module = module.map_err(SandboxError::Guest)?;
        let mut linker = Linker::new(&engine);
        imports::define(&mut linker).map_err(SandboxError::Guest)?;
        let guest = linker.instantiate_pre(&module).map_err(SandboxError::Guest)?;
        let text = module.text().as_ptr_range();
        let code = memory.executable(&(text.start.addr()..text.end.addr()));
        // The jail seals the guest's code, which could then not be unmapped: it stays to the end.
        std::mem::forget(module);
        Ok(Self { engine, guest, code, slots, page_bytes: page_bytes() })
    }
}

/// The guest's code as workers run it best, to be given to each of them; an error where this machine has no huge
/// pages for it.
pub fn publish() -> std::io::Result<OwnedFd> {
    Ok(huge::publish(&GUEST.0)?)
}

fn reserve(wanted: u16, memory: &Arc<InPlace>) -> Result<(Engine, u16), SandboxError> {
    let mut slots = wanted;
    loop {
        let mut config = shared_config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(slots)));
        config.with_custom_code_memory(Some(memory.clone()));
        match Engine::new(&config) {
            Ok(engine) => return Ok((engine, slots)),
            Err(_) if slots > 1 => slots /= 2,
            Err(error) => return Err(SandboxError::AddressSpace(error)),
        }
    }
}

/// One memory, table and stack for each slot, and one more: a script that is compiled while another
/// instance of its slot still lives.
fn pool(slots: u16) -> PoolingAllocationConfig {
    let count = u32::from(slots) + 1;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(count);
    pool.total_memories(count);
    pool.total_tables(count);
    pool.total_stacks(count);
    pool.max_memories_per_module(1);
    pool.max_tables_per_module(1);
    pool.max_memory_size(MEMORY_BYTES_MAX);
    pool.table_elements(TABLE_ELEMENTS_MAX);
    pool.max_core_instance_size(INSTANCE_BYTES_MAX);
    // Give memory back at once: batching would leave a tenant's pages mapped for a while.
    pool.decommit_batch_size(1);
    pool
}
