//! The worker process: it locks itself down, then runs guests for a parent it hears on one socket.
//!
//! It knows slots, handles and bytes. What must not be here: a tenant, a table, a path, a secret,
//! or what a host call means.

mod channel;
pub mod jail;
mod program;
mod sandbox;
mod scheduler;
mod turns;
mod worker;
mod zygote;

pub use sandbox::publish as publish_guest;
pub use worker::main;
#[cfg(feature = "hostile")]
pub use worker::{rehearse, rehearse_as_copy, rehearse_with, serve_with};
