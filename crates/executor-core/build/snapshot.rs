//! Runs the guest's start-up once and freezes the memory it leaves.
//!
//! wizer can do this by itself, but then it brings all of wasmtime: components, a cache, threads.

use wasmtime::error::Context;
use wasmtime::{Config, Engine, Instance, Linker, Module, OptLevel, Result, Store, Val};
use wasmtime_wizer::{InstanceState, SnapshotVal, ValType, Wizer};

/// The module, with what `init` left in memory and globals, and without `init`.
pub(crate) fn initialise(wasm: &[u8], init: &str, mut config: Config) -> Result<Vec<u8>> {
    // It runs once: compiling quickly matters more than running quickly.
    config.cranelift_opt_level(OptLevel::None);
    let mut wizer = Wizer::new();
    wizer.init_func(init);
    let (context, instrumented) = wizer.instrument(wasm)?;
    let engine = Engine::new(&config)?;
    let module = Module::new(&engine, instrumented)?;
    let mut store = Store::new(&engine, ());
    let mut linker = Linker::new(&engine);
    linker.define_unknown_imports_as_traps(&module)?;
    let instance = linker.instantiate(&mut store, &module)?;
    instance
        .get_typed_func::<(), ()>(&mut store, init)?
        .call(&mut store, ())
        .context("running its start-up")?;
    block_on(wizer.snapshot(&context, &mut State { store, instance }))
}

struct State {
    store: Store<()>,
    instance: Instance,
}

/// Of what wizer itself exported, so that it is there.
impl InstanceState for State {
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        let global = self.instance.get_global(&mut self.store, name).expect("wizer exports it");
        match global.get(&mut self.store) {
            Val::I32(value) => SnapshotVal::I32(value),
            Val::I64(value) => SnapshotVal::I64(value),
            Val::F32(bits) => SnapshotVal::F32(bits),
            Val::F64(bits) => SnapshotVal::F64(bits),
            other => panic!("the guest has a global of the type {other:?}"),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let memory = self.instance.get_memory(&mut self.store, name).expect("wizer exports it");
        contents(memory.data(&self.store));
    }
}

/// Runs a future that never waits for anything outside itself.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}
