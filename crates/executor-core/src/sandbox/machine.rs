//! One live instance of the guest.

use std::sync::Arc;

use shared::guest_abi;
use shared::limits::COMPILE_FUEL;
use wasmtime::{Error, Global, Memory, Result, Store, TypedFunc, Val};

use super::engine::Sandbox;
use super::fuel::Tank;
use super::guard::Guard;
use super::limiter::Limiter;
use super::link::{Link, Reply};
use super::random::SeededRandom;

/// What the imports and the limiter know of the running execution.
pub(crate) struct GuestState {
    pub(super) limiter: Limiter,
    pub(super) tank: Tank,
    pub(super) clock_ms: i64,
    pub(super) random: SeededRandom,
    pub(super) link: Arc<Link>,
    pub(super) reply: Option<Reply>,
    /// One-way calls that were passed on so far, and how much text was in them at least.
    pub(super) notices: u32,
    pub(super) notice_bytes: u32,
    /// Calls with an answer so far, but for those that were too many.
    pub(super) calls: u32,
    /// Their arguments, but for those that were too long together.
    pub(super) call_bytes: u32,
    /// Calls that are refused for their number or their arguments.
    pub(super) refused_calls: u32,
    pub(super) slot: u16,
    pub(super) generation: u32,
    memory: Option<Memory>,
}

impl GuestState {
    pub(super) fn memory(&self) -> Result<Memory> {
        self.memory.ok_or_else(|| Error::msg("the guest calls out before it is instantiated"))
    }
}

/// A guest in memory. It is thrown away after every trap, so one that is kept has returned
/// normally from its last call.
pub(crate) struct Machine {
    /// Stands before the store, so that the memory is writable again before the engine gets it back.
    pub(super) guard: Guard,
    pub(super) store: Store<GuestState>,
    pub(super) memory: Memory,
    stack_pointer: Global,
    fuel: Global,
    alloc: TypedFunc<u32, u32>,
    load: TypedFunc<(u32, u32), u64>,
    run: TypedFunc<(u32, u32), u64>,
}

impl Machine {
    /// A guest in the state `build.rs` froze.
    pub(super) async fn fresh(sandbox: &Sandbox, link: &Arc<Link>, slot: u16) -> Result<Self> {
        let state = GuestState {
            limiter: Limiter::default(),
            // Loading is bounded like compiling, of which it is a part.
            tank: Tank::new(COMPILE_FUEL),
            clock_ms: 0,
            random: SeededRandom::default(),
            link: link.clone(),
            reply: None,
            notices: 0,
            notice_bytes: 0,
            calls: 0,
            call_bytes: 0,
            refused_calls: 0,
            slot,
            generation: 0,
            memory: None,
        };
        let mut store = Store::new(&sandbox.engine, state);
        store.limiter(|state| &mut state.limiter);
        let instance = sandbox.guest.instantiate_async(&mut store).await?;
        let missing = || Error::msg("the guest lacks an export");
        let memory = instance.get_memory(&mut store, guest_abi::MEMORY).ok_or_else(missing)?;
        let stack_pointer = instance.get_global(&mut store, "__stack_pointer").ok_or_else(missing)?;
        let fuel = instance.get_global(&mut store, guest_abi::FUEL).ok_or_else(missing)?;
        store.data_mut().memory = Some(memory);
        Ok(Self {
            guard: Guard::new(&mut store, memory, sandbox.page_bytes),
            memory,
            stack_pointer,
            fuel,
            alloc: instance.get_typed_func(&mut store, guest_abi::ALLOC)?,
            load: instance.get_typed_func(&mut store, guest_abi::LOAD)?,
            run: instance.get_typed_func(&mut store, guest_abi::RUN)?,
            store,
        })
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.memory.data_size(&self.store)
    }

    /// Makes all memory writable, and has the guard take charge of what came by growing too.
    pub(super) fn guard_all(&mut self) -> Result<()> {
        self.guard.end()?;
        if self.guard.bytes() != self.memory_bytes() {
            self.guard = Guard::new(&mut self.store, self.memory, self.guard.page_bytes());
        }
        Ok(())
    }

    /// Gives the guest all it may burn and ask for from now on.
    pub(super) fn set_fuel(&mut self, fuel: u64) -> Result<()> {
        let mut tank = Tank::new(fuel);
        let slice = tank.slice(0).unwrap_or(0);
        let state = self.store.data_mut();
        state.tank = tank;
        (state.notices, state.notice_bytes) = (0, 0);
        (state.calls, state.call_bytes, state.refused_calls) = (0, 0, 0);
        self.fuel.set(&mut self.store, Val::I64(slice))
    }

    /// What the guest has not burnt.
    pub(super) fn fuel_left(&mut self) -> u64 {
        let counter = self.fuel.get(&mut self.store).i64().unwrap_or(0);
        self.store.data().tank.left_with(counter)
    }

    pub(super) fn stack_pointer(&mut self) -> Val {
        self.stack_pointer.get(&mut self.store)
    }

    pub(super) fn set_stack_pointer(&mut self, value: Val) -> Result<()> {
        self.stack_pointer.set(&mut self.store, value)
    }

    /// Asks the guest for a buffer.
    pub(super) async fn alloc(&mut self, len: usize) -> Result<u32> {
        self.alloc.call_async(&mut self.store, u32::try_from(len)?).await
    }

    /// Passes a [`guest_abi::LoadRequest`]; answers the bytes of a [`guest_abi::LoadReply`].
    pub(super) async fn load(&mut self, request: &[u8]) -> Result<Vec<u8>> {
        let ptr = self.alloc(request.len()).await?;
        self.write(ptr, request)?;
        let packed = self.load.call_async(&mut self.store, (ptr, u32::try_from(request.len())?)).await?;
        self.answer(packed, usize::MAX).map_err(Error::from)
    }

    /// Writes an argument into a buffer of the guest's.
    pub(super) fn write(&mut self, ptr: u32, bytes: &[u8]) -> Result<()> {
        let start = ptr as usize;
        self.guard.unprotect(start..start.saturating_add(bytes.len()))?;
        self.memory.write(&mut self.store, start, bytes)?;
        Ok(())
    }

    /// Runs the loaded script on the input that stands at `ptr`.
    pub(super) async fn run(&mut self, ptr: u32, len: usize) -> Result<u64> {
        self.run.call_async(&mut self.store, (ptr, u32::try_from(len)?)).await
    }

    /// Copies out what a guest function answered.
    pub(super) fn answer(&self, packed: u64, bytes_max: usize) -> Result<Vec<u8>, BadAnswer> {
        let (ptr, len) = guest_abi::unpack(packed);
        let (start, len) = (ptr as usize, len as usize);
        if len > bytes_max {
            return Err(BadAnswer::TooLarge);
        }
        let end = start.checked_add(len).ok_or(BadAnswer::OutOfBounds)?;
        let bytes = self.memory.data(&self.store).get(start..end).ok_or(BadAnswer::OutOfBounds)?;
        Ok(bytes.to_vec())
    }
}

/// A guest function's answer that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadAnswer {
    #[error("the answer is over the limit")]
    TooLarge,
    #[error("the answer lies outside the guest's memory")]
    OutOfBounds,
}
