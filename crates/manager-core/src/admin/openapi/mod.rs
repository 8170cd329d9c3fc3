//! The admin API described for programs: an OpenAPI 3.1 document, made from the table of endpoints and
//! from the types that handlers take and answer, so that it cannot say anything else than they do; and
//! a page that shows it.
//!
//! Only words are written by hand, in [`words`]: nothing here decides what is served.

mod document;
mod operation;
mod page;
mod schemas;
mod signature;
mod words;

pub use self::document::{Beside, openapi};
pub(super) use self::operation::{Answer, Argument, Operation};
pub(super) use self::page::router;
pub(super) use self::signature::Described;
