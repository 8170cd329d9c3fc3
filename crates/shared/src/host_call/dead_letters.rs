//! Arguments and answers of the calls of `dead_letters`.

use serde::{Deserialize, Serialize};

/// Which dead letters to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    pub unresolved: bool,
    pub limit: u32,
}

/// Which dead letter is meant, and why something is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct One<'a> {
    pub id: &'a str,
    /// Empty where nobody asks.
    pub reason: &'a str,
}

/// An answer as JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown<'a> {
    pub json: &'a str,
}
