//! The complete list of what a script can ask of the parent.
//!
//! A worker relays these calls as numbers and bytes and does not know what they mean.

use serde::{Deserialize, Serialize};

/// Set in the number of a call that has no answer: the guest goes on at once.
pub const ONE_WAY: u16 = 0x8000;
/// Not a call: copies the answer of the last call into guest memory. Served by the worker itself.
pub const TAKE_REPLY: u16 = 0;
/// Not a call: the guest has burnt its slice of fuel and asks for the next. Served by the worker itself.
pub const REFUEL: u16 = 0x7fff;

/// Everything a guest may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum HostOp {
    /// Appends a line to the execution's log. Arguments: [`LogLine`].
    Log = ONE_WAY | 1,
}

impl HostOp {
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            n if n == Self::Log as u16 => Some(Self::Log),
            _ => None,
        }
    }
}

/// Severity of a log line; no `debug`, because that is a Rhai keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Trace,
    Info,
    Warn,
    Error,
}

impl LogLevel {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Arguments of [`HostOp::Log`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine<'a> {
    pub level: LogLevel,
    pub message: &'a str,
    /// JSON text of the optional second argument; empty when absent.
    pub data: &'a str,
}
