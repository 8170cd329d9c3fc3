//! Runs typical scripts in the guest, to learn which way control goes in it.

use std::path::{Path, PathBuf};

use metering::{PROFILE, Profile};
use shared::guest_abi::{self, GuestInput, GuestOutput, InvocationType, LoadReply, LoadRequest};
use shared::script::{Bundle, ScriptKind};
use shared::wire::codec;
use wasmtime::error::Context;
use wasmtime::{Config, Engine, Instance, Linker, Memory, Module, OptLevel, Result, Store, bail, ensure};

/// Counts twice: it is what most requests are like.
const MOST: &str = "answer.rhai";

/// Runs each script of the folder and adds up what their guests count.
pub(crate) fn profile(wasm: &[u8], scripts: &Path, mut config: Config) -> Result<Profile> {
    let instrumented = metering::instrument(wasm).context("instrumenting the guest")?;
    config.wasm_multi_memory(true);
    // It runs for less time than it is compiled.
    config.cranelift_opt_level(OptLevel::None);
    let engine = Engine::new(&config)?;
    let module = Module::new(&engine, instrumented)?;
    let mut counts: Vec<u64> = Vec::new();
    for script in sorted(scripts)? {
        let source = std::fs::read_to_string(&script)?;
        let weight = if script.ends_with(MOST) { 2 } else { 1 };
        let mut guest = Guest::start(&engine, &module)?;
        guest.load(&source).with_context(|| script.display().to_string())?;
        guest.profile.data_mut(&mut guest.store).fill(0);
        guest.run().with_context(|| script.display().to_string())?;
        let memory = guest.profile.data(&guest.store).chunks_exact(size_of::<u64>());
        counts.resize(memory.len(), 0);
        for (sum, bytes) in counts.iter_mut().zip(memory) {
            *sum += weight * u64::from_le_bytes(bytes.try_into()?);
        }
    }
    let counts: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
    Ok(Profile::read(wasm, &counts)?)
}

/// In an order that is the same everywhere, so that the same guest comes of it.
fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "rhai"));
    paths.sort();
    ensure!(!paths.is_empty(), "no scripts in {}", folder.display());
    Ok(paths)
}

struct Guest {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
    profile: Memory,
}

impl Guest {
    fn start(engine: &Engine, module: &Module) -> Result<Self> {
        let mut linker: Linker<()> = Linker::new(engine);
        let imports = guest_abi::IMPORT_MODULE;
        linker.func_wrap(imports, "clock", || 1_700_000_000_000_i64)?;
        linker.func_wrap(imports, "entropy", |_: u32, _: u32| {})?;
        // All calls of the scripts are log lines, which have no answer.
        linker.func_wrap(imports, "host_call", |_: u32, _: u32, _: u32| 0_i64)?;
        let mut store = Store::new(engine, ());
        let instance = linker.instantiate(&mut store, module)?;
        let mut memory = |name| instance.get_memory(&mut store, name).context("the guest lacks a memory");
        let (memory, profile) = (memory(guest_abi::MEMORY)?, memory(PROFILE)?);
        Ok(Self { store, instance, memory, profile })
    }

    fn load(&mut self, source: &str) -> Result<()> {
        let mut bundle = Vec::new();
        codec::encode_body(&mut bundle, &Bundle::single(ScriptKind::Endpoint, "training", source));
        let mut request = Vec::new();
        let limits =
            LoadRequest { max_operations: 0, max_call_levels: 64, max_expr_depth: 64, bundle: &bundle };
        codec::encode_body(&mut request, &limits);
        let answer = self.call(guest_abi::LOAD, &request)?;
        match codec::decode_body(&answer)? {
            LoadReply::Loaded { .. } => Ok(()),
            LoadReply::Rejected { line, message, .. } => bail!("line {line}: {message}"),
        }
    }

    fn run(&mut self) -> Result<()> {
        let mut input = Vec::new();
        codec::encode_body(
            &mut input,
            &GuestInput {
                execution_id: [0; 16],
                request_id: "training",
                app: "training",
                script: "training",
                version: 1,
                invocation_type: InvocationType::Function,
                trigger_depth: 0,
                fuel: 1_000_000_000,
                memory_mb: 32,
                timeout_ms: 10_000,
                response_bytes: 1 << 20,
                user: None,
                http: None,
                event: None,
                delivery: None,
            },
        );
        let answer = self.call(guest_abi::RUN, &input)?;
        match codec::decode_body(&answer)? {
            GuestOutput::Response { .. } => Ok(()),
            GuestOutput::ScriptError { line, message, .. } => bail!("line {line}: {message}"),
            GuestOutput::InvalidResponse { message } => bail!("{message}"),
        }
    }

    fn call(&mut self, export: &str, argument: &[u8]) -> Result<Vec<u8>> {
        let len = u32::try_from(argument.len())?;
        let alloc = self.instance.get_typed_func::<u32, u32>(&mut self.store, guest_abi::ALLOC)?;
        let ptr = alloc.call(&mut self.store, len)?;
        self.memory.write(&mut self.store, ptr as usize, argument)?;
        let function = self.instance.get_typed_func::<(u32, u32), u64>(&mut self.store, export)?;
        let (ptr, len) = guest_abi::unpack(function.call(&mut self.store, (ptr, len))?);
        let answer =
            self.memory.data(&self.store).get(ptr as usize..).and_then(|rest| rest.get(..len as usize));
        Ok(answer.context("the guest answers outside its memory")?.to_vec())
    }
}
