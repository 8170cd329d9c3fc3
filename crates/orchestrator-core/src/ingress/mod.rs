//! HTTP in: the public listener, its limits, and the way from a request to a script and back.

mod accept;
mod assets;
mod body;
mod caller;
mod cors;
mod gate;
mod problem;
mod rate;
mod request;
mod response;
mod server;
mod trace;

pub use server::{DataPlane, IngressConfig, serve};
pub use trace::Tracing;
