//! Makes a WebAssembly module count the fuel it burns.
//!
//! wasmtime can do this itself (`Config::consume_fuel`), for any module from anywhere: it keeps the
//! counter in memory and stores it before, loads it after and checks it on entry of every call. An
//! interpreter calls all the time, and paid a third of its time for that. This pass adds to the counter
//! when a function is entered, what it is expected to cost, again where control comes seldom (see
//! [`plan`]), and leaves out functions too small to matter; their callers pay for them. See ADR 11 for
//! what that saved. A [`Profile`] of typical runs tells the compiler, too, which code is seldom reached.
//!
//! Beside it stands [`widen_arguments`], which keeps calls from waiting for their own arguments.
//!
//! # What holds
//!
//! - No path through a function costs more than sixteen times what is counted for it (see [`plan`]), where a call by
//!   a table counts for one unit. What is called so counts for itself unless it is light: then up to 40 units (see
//!   [`survey`]) go uncounted, as often as the call is made.
//! - The counter is compared with 0 in each turn of a loop, and whenever a function is entered that is
//!   not light. A module can therefore not run forever: to do so it would have to loop or to call
//!   forever.
//! - No instruction moves more than 64 KiB of memory: longer ones are done in pieces, each charged
//!   before it is moved (see [`bulk`]).
//! - Nothing but the host and the instructions added here can write the counter: it is a global,
//!   which no address reaches, and a module that had it before is refused.
//!
//! # What the host must do
//!
//! Before it calls an export it sets the global [`Counter::global`] to the negative of what may be burnt. When
//! the counter reaches 0, the module calls [`Counter::import`], with [`Counter::op`] and by how
//! much the counter is over 0 (saturated to 31 bits), and sets the counter to what the import answers:
//! again a negative number, or the import traps.

mod arguments;
mod body;
mod bulk;
mod cost;
mod module;
mod plan;
mod profile;
mod short;
mod survey;

pub use arguments::widen_arguments;
pub use profile::{PROFILE, Profile, instrument};

/// What module and host know the counter by.
#[derive(Debug, Clone, Copy)]
pub struct Counter<'a> {
    /// The exported global that counts: 64 bits, below 0 while there is fuel.
    pub global: &'a str,
    /// The import that is asked for more fuel: `(op: i32, over: i32, 0: i32) -> i64`.
    pub module: &'a str,
    pub import: &'a str,
    pub op: i32,
}

#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    #[error("the module is not valid: {0}")]
    Invalid(#[from] wasmparser::BinaryReaderError),
    #[error("the module does not import {module}::{name} as a function (i32, i32, i32) -> i64")]
    NoImport { module: String, name: String },
    #[error("the module already exports `{0}`")]
    HasCounter(String),
    #[error("the module uses what this pass does not know: {0}")]
    Unsupported(String),
}

/// The same module, counting.
///
/// # Errors
/// When the module is not valid, lacks the import, has the export, or uses proposals beyond
/// WebAssembly 2.0 by which control could leave a function (tail calls, exceptions).
pub fn meter(wasm: &[u8], counter: Counter<'_>, profile: &Profile) -> Result<Vec<u8>, MeterError> {
    let survey = survey::Survey::of(wasm)?;
    module::rewrite(wasm, &survey, counter, profile)
}
