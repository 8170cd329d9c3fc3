//! Arguments and answers of the calls of `files`.

use serde::{Deserialize, Serialize};

/// All that is known of a file but its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub content_type: &'a str,
    pub size: u64,
    /// SHA-256 of the content, in hexadecimal digits.
    pub checksum: &'a str,
    pub version: u64,
    /// As in RFC 3339.
    pub created_at: &'a str,
    pub updated_at: &'a str,
}

/// A piece of a content that is longer than one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append<'a> {
    /// What the first piece was answered; 0 for the first.
    pub upload: u32,
    #[serde(with = "serde_bytes", borrow)]
    pub data: &'a [u8],
}

/// Answer to a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    pub upload: u32,
}

/// A content: the pieces of an upload, if it has a number, and then these bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content<'a> {
    pub upload: u32,
    #[serde(with = "serde_bytes", borrow)]
    pub data: &'a [u8],
}

/// A file to be made. Its id is the platform's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create<'a> {
    pub collection: &'a str,
    pub name: &'a str,
    pub content_type: &'a str,
    #[serde(borrow)]
    pub content: Content<'a>,
}

/// A change of a file; what is not given stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update<'a> {
    pub collection: &'a str,
    pub id: &'a str,
    pub name: Option<&'a str>,
    pub content_type: Option<&'a str>,
    #[serde(borrow)]
    pub content: Option<Content<'a>>,
}

/// Which file is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Id<'a> {
    pub collection: &'a str,
    pub id: &'a str,
}

/// A part of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read<'a> {
    pub collection: &'a str,
    pub id: &'a str,
    pub offset: u64,
    /// The version that the parts before were of; 0 for the first.
    pub version: u64,
}

/// Answer of a read of a part: as much as one answer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part<'a> {
    pub size: u64,
    pub version: u64,
    #[serde(with = "serde_bytes", borrow)]
    pub data: &'a [u8],
}

/// Answer of a read; nothing when there is no such file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundPart<'a> {
    #[serde(borrow)]
    pub part: Option<Part<'a>>,
}

/// Answer about one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found<'a> {
    #[serde(borrow)]
    pub file: Option<Meta<'a>>,
}

/// Answer of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub existed: bool,
}

/// A part of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct List<'a> {
    pub collection: &'a str,
    pub limit: u32,
    /// The id after which it begins; empty for the beginning.
    pub after: &'a str,
}

/// Answer of a listing, in the order in which the files were made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<'a> {
    #[serde(borrow)]
    pub files: Vec<Meta<'a>>,
    pub has_more: bool,
}

/// A link by which anybody gets a file for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link<'a> {
    pub collection: &'a str,
    pub id: &'a str,
    pub expires_s: u32,
}

/// Answer with a link; nothing when there is no such file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linked<'a> {
    pub url: Option<&'a str>,
}
