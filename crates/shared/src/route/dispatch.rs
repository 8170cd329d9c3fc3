//! How a route's requests come to its script.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Three lanes. All of them share the same workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum DispatchMode {
    /// At once and from memory; the caller has the answer.
    #[default]
    Sync,
    /// Written down first; the caller has the answer all the same. Never tried again.
    Durable,
    /// Written down; the caller has a 202, and the script runs until it succeeds.
    Async,
}

/// A text that names no mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("dispatch_mode is sync, durable or async")]
pub struct UnknownMode;

impl DispatchMode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Durable => "durable",
            Self::Async => "async",
        }
    }
}

impl FromStr for DispatchMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        let known = [Self::Sync, Self::Durable, Self::Async];
        known.into_iter().find(|mode| mode.as_str() == text).ok_or(UnknownMode)
    }
}
