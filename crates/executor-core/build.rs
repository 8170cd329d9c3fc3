//! Builds the guest: cargo → wizer → wide arguments → training → metering → Cranelift → one embedded artifact.
//!
//! The compiler lives only here. What ships is `guest.cwasm`, native code for the target, which the
//! worker maps and runs.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use metering::Counter;
use sha2::{Digest, Sha256};
use shared::guest_abi;
use shared::host_call::REFUEL;
use wasmtime::error::Context;
use wasmtime::{Engine, OptLevel, Result, bail, ensure};

#[path = "src/sandbox/config.rs"]
mod config;
#[path = "build/snapshot.rs"]
mod snapshot;
#[path = "build/training.rs"]
mod training;

/// The only things a guest may reach outside itself.
const IMPORTS: [&str; 3] = ["clock", "entropy", "host_call"];
/// Most that the guest may be, as it is built. It grows by what is compiled for speed without need: see ADR 28 before
/// this is raised.
const GUEST_BYTES_MAX: usize = 4 << 20;
/// What the guest's exported start-up function is called; it runs here and is then removed.
const INIT: &str = "picloud_init";
/// How the guest counts what it burns.
const COUNTER: Counter<'_> = Counter {
    global: guest_abi::FUEL,
    module: guest_abi::IMPORT_MODULE,
    import: "host_call",
    op: REFUEL as i32,
};

fn main() -> Result<()> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let guest = manifest.join("../../sandbox-wasm");
    for path in
        ["src", "sdk/src", "sdk/build.rs", "sdk/Cargo.toml", "Cargo.toml", "Cargo.lock", ".cargo/config.toml"]
    {
        println!("cargo::rerun-if-changed={}", guest.join(path).display());
    }
    println!("cargo::rerun-if-changed={}", manifest.join("../shared/src").display());
    for path in ["src/sandbox/config.rs", "build", "training"] {
        println!("cargo::rerun-if-changed={}", manifest.join(path).display());
    }

    let wasm = fs::read(build_guest(&guest, &out)?).context("reading the guest module")?;
    ensure!(
        wasm.len() <= GUEST_BYTES_MAX,
        "the guest has {} bytes, more than the {GUEST_BYTES_MAX} it may have",
        wasm.len()
    );
    check_imports(&wasm)?;
    let initialised =
        snapshot::initialise(&wasm, INIT, config::shared_config()).context("pre-initialising the guest")?;
    let widened = metering::widen_arguments(&initialised).context("widening the guest's arguments")?;
    let profile = training::profile(&widened, &manifest.join("training"), config::shared_config())
        .context("training the guest")?;
    let metered = metering::meter(&widened, COUNTER, &profile).context("metering the guest")?;
    check_mutable_globals(&metered)?;
    let native = compile(&metered).context("compiling the guest")?;

    fs::write(out.join("guest.cwasm"), native)?;
    fs::write(out.join("guest.sha256"), Sha256::digest(&metered))?;
    Ok(())
}

/// Runs cargo on the guest's own workspace, in a target directory of its own: the outer cargo holds
/// the lock of the usual one.
fn build_guest(guest: &Path, out: &Path) -> Result<PathBuf> {
    let target = out.join("guest-target");
    let status = Command::new(env::var("CARGO")?)
        .args(["build", "--release", "--locked", "--target", "wasm32-unknown-unknown", "--target-dir"])
        .arg(&target)
        .current_dir(guest)
        // The flags of the outer build are for another target; the guest's are in its own config.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        // Under clippy these would turn the nested build into a check.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET_DIR")
        // Hash seeds are drawn when the crates are compiled; fixed ones make the build repeatable.
        .env("CONST_RANDOM_SEED", "picloud")
        .env("RHAI_HASHING_SEED", "[1,2,3,4]")
        .status()
        .context("starting cargo for the guest")?;
    ensure!(
        status.success(),
        "the guest did not build; if its target is missing, run `rustup target add wasm32-unknown-unknown`"
    );
    Ok(target.join("wasm32-unknown-unknown/release/sandbox_wasm.wasm"))
}

fn check_imports(wasm: &[u8]) -> Result<()> {
    use wasmparser::{Parser, Payload};

    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::ImportSection(imports) = payload? {
            for import in imports.into_imports() {
                let import = import?;
                if import.module != "picloud" || !IMPORTS.contains(&import.name) {
                    bail!(
                        "the guest imports {}::{}, but may import only {IMPORTS:?}",
                        import.module,
                        import.name
                    );
                }
            }
        }
    }
    Ok(())
}

/// A slot is cleaned by restoring memory and every mutable global. A global the worker cannot see
/// would keep what the last script left in it.
fn check_mutable_globals(wasm: &[u8]) -> Result<()> {
    use wasmparser::{ExternalKind, Parser, Payload};

    let mut mutable = BTreeSet::new();
    let mut exported = BTreeSet::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::GlobalSection(globals) => {
                for (index, global) in globals.into_iter().enumerate() {
                    if global?.ty.mutable {
                        mutable.insert(u32::try_from(index)?);
                    }
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    if export.kind == ExternalKind::Global {
                        exported.insert(export.index);
                    }
                }
            }
            _ => {}
        }
    }
    ensure!(
        mutable.is_subset(&exported),
        "mutable globals {mutable:?} must all be exported, but only {exported:?} are"
    );
    Ok(())
}

fn compile(wasm: &[u8]) -> Result<Vec<u8>> {
    let mut config = config::shared_config();
    config.target(&env::var("TARGET")?)?;
    config.cranelift_opt_level(OptLevel::Speed);
    // Every machine must compute the same bits, or a replay would not be one.
    config.cranelift_nan_canonicalization(true);
    // What is seldom reached stands apart from what is often.
    config.wasm_branch_hinting(true);
    Engine::new(&config)?.precompile_module(wasm)
}
