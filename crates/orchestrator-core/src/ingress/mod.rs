//! HTTP in: the public listener, its limits, and the way from a request to a script and back.

mod accept;
mod answer;
mod assets;
mod bodies;
mod body;
mod caller;
mod connection;
mod cors;
mod gate;
mod home;
mod opening;
mod problem;
mod rate;
mod request;
mod response;
mod server;
mod taking;
mod trace;

pub use body::{BodyError, Paced};
pub use server::{DataPlane, IngressConfig, serve};
pub use trace::Tracing;
