//! The narrow face of wasmtime: nobody outside this folder names it.

#[cfg(test)]
mod canary;
mod code;
mod config;
mod discard;
mod engine;
mod fuel;
mod guard;
mod huge;
mod image;
mod imports;
mod limiter;
mod link;
mod machine;
mod random;
#[cfg(test)]
pub(crate) mod sample;
mod slot;

pub use engine::publish;
pub(crate) use engine::{GUEST_SHA256, Sandbox, SandboxError};
pub(crate) use fuel::TIME_SLICE_FUEL;
pub(crate) use huge::move_to_huge_pages;
pub(crate) use image::Images;
pub(crate) use link::{Link, Reply};
pub(crate) use machine::Machine;
pub(crate) use slot::{Finished, Job, Task, execute};
