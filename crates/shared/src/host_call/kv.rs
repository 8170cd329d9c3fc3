//! Arguments and answers of the calls of `kv`. Values are JSON text.

use serde::{Deserialize, Deserializer, Serialize};

use super::list;
use crate::limits::KV_LIST_MAX;

/// Which value is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key<'a> {
    pub collection: &'a str,
    pub key: &'a str,
}

/// Several values of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys<'a> {
    pub collection: &'a str,
    #[serde(borrow, deserialize_with = "limited_keys")]
    pub keys: Vec<&'a str>,
}

fn limited_keys<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<&'a str>, D::Error> {
    list::at_most(KV_LIST_MAX as usize, deserializer)
}

/// Answer of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found<'a> {
    pub value: Option<&'a str>,
}

/// Answer of a read of several, in the order of the keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundMany<'a> {
    #[serde(borrow)]
    pub values: Vec<Option<&'a str>>,
}

/// A value with all that is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<'a> {
    pub key: &'a str,
    pub value: &'a str,
    pub version: u64,
    /// When it will be gone, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<i64>,
}

/// Answer of a read of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundEntry<'a> {
    #[serde(borrow)]
    pub entry: Option<Entry<'a>>,
}

/// Answer to the question whether there is a value, or whether one was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Existed {
    pub existed: bool,
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

/// A number to be added to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incr<'a> {
    pub collection: &'a str,
    pub key: &'a str,
    pub by: i64,
}

/// Answer of an addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    pub value: i64,
    pub version: u64,
}

/// A part of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct List<'a> {
    pub collection: &'a str,
    pub prefix: &'a str,
    pub limit: u32,
    /// The key after which it begins; empty for the beginning.
    pub after: &'a str,
}

/// Answer of a listing, in the order of the keys' bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<'a> {
    #[serde(borrow)]
    pub entries: Vec<Entry<'a>>,
    /// Whether there are more after the last one.
    pub has_more: bool,
}
