//! The protocol between parent and worker: frames, their encoding, and how a worker ends.
//!
//! What must not be here: any id, name or capability of a tenant. A worker knows slots and handles.

pub mod codec;
pub mod frame;
pub mod process_limits;
pub mod worker;
