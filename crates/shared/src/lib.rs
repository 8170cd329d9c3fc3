//! Domain types, limits, wire frames and ports.
//!
//! What every crate may know. No server, database or process is named here, and the whole crate
//! builds for `wasm32-unknown-unknown`, because the guest speaks the same types.

#![forbid(unsafe_code)]

#[cfg(feature = "host")]
pub mod allowance;
#[cfg(feature = "host")]
pub mod call;
#[cfg(feature = "host")]
pub mod caller;
#[cfg(feature = "host")]
pub mod capabilities;
#[cfg(feature = "host")]
pub mod cause;
#[cfg(feature = "host")]
pub mod confidential;
#[cfg(feature = "host")]
pub mod credential;
pub mod fault;
pub mod guest_abi;
#[cfg(feature = "host")]
pub mod host;
pub mod host_call;
pub mod http;
pub mod id;
#[cfg(feature = "host")]
pub mod incident;
#[cfg(feature = "host")]
pub mod invocation;
#[cfg(feature = "host")]
pub mod json_scan;
pub mod limits;
#[cfg(feature = "host")]
pub mod manifest;
pub mod name;
#[cfg(feature = "host")]
pub mod path;
#[cfg(feature = "host")]
pub mod ports;
pub mod route;
pub mod script;
#[cfg(feature = "host")]
pub mod sdk;
#[cfg(feature = "host")]
pub mod topic;
#[cfg(feature = "host")]
pub mod trace;
pub mod wire;

/// Version of the SDK that scripts see as `ctx.sdk_version`: `major.minor`.
pub const SDK_VERSION: &str = "0.1";
