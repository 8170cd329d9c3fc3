//! Arguments and answers of `http`. Header blocks are [`crate::http::PairBlock`]s.

use serde::{Deserialize, Serialize};

/// What stands between the name of a secret and the text around it, in [`Request::secret_headers`].
/// No name has it.
pub const BEHIND_SECRET: u8 = 0;
/// Where the secret goes in that text.
pub const SECRET_HERE: &str = "{}";

/// A request to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request<'a> {
    pub method: &'a str,
    pub url: &'a str,
    #[serde(with = "serde_bytes", borrow)]
    pub headers: &'a [u8],
    /// Headers whose values the parent makes: each value is the name of a secret, a zero byte, and a
    /// text with `{}` where the secret goes.
    #[serde(with = "serde_bytes", borrow)]
    pub secret_headers: &'a [u8],
    #[serde(with = "serde_bytes", borrow)]
    pub body: &'a [u8],
    /// 0 for as long as there is.
    pub timeout_ms: u32,
    /// Whether redirects are followed.
    pub follows: bool,
}

/// The answer of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response<'a> {
    pub status: u16,
    /// Where it came from, behind all redirects.
    pub url: &'a str,
    #[serde(with = "serde_bytes", borrow)]
    pub headers: &'a [u8],
    #[serde(with = "serde_bytes", borrow)]
    pub body: &'a [u8],
}
