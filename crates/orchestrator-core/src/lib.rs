//! The parent's data plane: ingress, routing, admission and the worker pool.
//!
//! What must not be here: SQL, tables, Rhai. Nothing that comes from a worker is believed.

#![forbid(unsafe_code)]

pub mod ingress;
pub mod pool;
pub mod routing;
