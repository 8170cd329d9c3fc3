//! Arguments and answers of the calls of `invoke` and `retry`. Values are JSON text.

use serde::{Deserialize, Serialize};

/// A script of the same app, and what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoke<'a> {
    pub script: &'a str,
    pub args: &'a str,
}

/// What the script answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returned<'a> {
    pub status: u16,
    pub form: Form,
    #[serde(with = "serde_bytes", borrow)]
    pub body: &'a [u8],
}

/// What the bytes of an answer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    Json,
    Text,
    Bytes,
}

/// A script to be run later, once for sure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvokeAsync<'a> {
    pub script: &'a str,
    pub args: &'a str,
    pub delay_ms: u64,
    /// Attempts in all; 0 for the usual number.
    pub attempts: u16,
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    pub ms: u64,
}
