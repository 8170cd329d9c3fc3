//! Arguments and answers of the calls of `kv`. Values are JSON text.

use serde::{Deserialize, Serialize};

/// Which value is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key<'a> {
    pub collection: &'a str,
    pub key: &'a str,
}

/// Answer of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found<'a> {
    pub value: Option<&'a str>,
}

/// What must hold for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    None,
    /// There is no value yet.
    Absent,
    /// The value is of this version.
    Version(u64),
}

/// A value to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set<'a> {
    pub collection: &'a str,
    pub key: &'a str,
    pub value: &'a str,
    /// For how long the value is there; 0 is for good.
    pub ttl_ms: u64,
    pub condition: Condition,
}

/// Answer of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    pub version: u64,
}
