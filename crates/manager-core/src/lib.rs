//! The manager: everything that is kept, and the API to manage it.
//!
//! `store` holds all SQL, `auth` decides who may do what, `audit` keeps who did what, `admin` is the
//! HTTP API, `snapshot` is the routing table in memory, `recorder` the execution log. Nothing here knows workers, frames
//! or Rhai: scripts are compiled and run through the port `Invoke`.

#![forbid(unsafe_code)]

mod admin;
mod audit;
mod auth;
mod bootstrap;
mod bundles;
mod deploy;
mod manager;
mod modules;
mod recorder;
mod snapshot;
mod store;

pub use crate::admin::{Permission, permissions};
pub use crate::auth::HashError;
pub use crate::bootstrap::{BootstrapError, FirstOwner};
pub use crate::manager::{Manager, ManagerConfig, PasswordError};
pub use crate::recorder::{RecorderCounters, Retention};
pub use crate::store::migrations::OpenError;
