//! Arguments and answers of the calls of `docs`. Documents and queries are JSON text.

use serde::{Deserialize, Serialize};

/// A document to be made. Its id is the platform's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create<'a> {
    pub collection: &'a str,
    pub data: &'a str,
}

/// Answer of a creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created<'a> {
    pub id: &'a str,
}

/// Which document is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Id<'a> {
    pub collection: &'a str,
    pub id: &'a str,
}

/// A document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document<'a> {
    pub id: &'a str,
    pub data: &'a str,
    pub version: u64,
    /// As in RFC 3339.
    pub created_at: &'a str,
    pub updated_at: &'a str,
}

/// Answer of a read of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found<'a> {
    #[serde(borrow)]
    pub document: Option<Document<'a>>,
}

/// What a change does to a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// The new data takes the place of the old.
    Replace,
    /// Members are set, and those that are null removed, as in RFC 7396.
    Merge,
}

/// A change of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update<'a> {
    pub collection: &'a str,
    pub id: &'a str,
    pub data: &'a str,
    pub mode: Mode,
    /// Only if the document is of this version.
    pub if_version: Option<u64>,
}

/// Answer of a change: the new version, if there is such a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Updated {
    pub version: Option<u64>,
}

/// Answer of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub existed: bool,
}

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Find<'a> {
    pub collection: &'a str,
    /// A filter, with `$sort`, `$limit` and `$skip`.
    pub query: &'a str,
    /// Where the page before ended; empty for the first.
    pub cursor: &'a str,
}

/// Answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<'a> {
    #[serde(borrow)]
    pub documents: Vec<Document<'a>>,
    /// Where the next page begins; none on the last.
    pub cursor: Option<&'a str>,
}

/// Answer to the question how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    pub count: u64,
}
