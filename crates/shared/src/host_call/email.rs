//! Arguments and answers of `email`. Addresses are as scripts write them: `ada@example.com`, or
//! `Ada <ada@example.com>`.

use serde::{Deserialize, Serialize};

/// A mail. Who it is from is not here: that is the operator's to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send<'a> {
    #[serde(borrow)]
    pub to: Vec<&'a str>,
    #[serde(borrow)]
    pub cc: Vec<&'a str>,
    /// They get it, and nobody sees that.
    #[serde(borrow)]
    pub bcc: Vec<&'a str>,
    /// Where answers go, if not to the sender.
    pub reply_to: Option<&'a str>,
    /// What is shown instead of the sender's own name.
    pub from_name: Option<&'a str>,
    pub subject: &'a str,
    pub text: Option<&'a str>,
    pub html: Option<&'a str>,
    #[serde(borrow)]
    pub attachments: Vec<Attachment<'a>>,
}

/// A file that goes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment<'a> {
    pub name: &'a str,
    pub content_type: &'a str,
    #[serde(with = "serde_bytes", borrow)]
    pub content: &'a [u8],
}

/// The mail server has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent<'a> {
    /// Its `Message-ID`, with the angle brackets.
    pub id: &'a str,
}
