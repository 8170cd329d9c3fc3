//! From host, method and path to a script.

mod matcher;
mod snapshot;

pub use matcher::{AppMatcher, Matched, Miss};
pub use snapshot::{Host, Place, Router};
