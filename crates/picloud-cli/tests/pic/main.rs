//! The `pic` binary against a server that answers what the admin API is specified to answer: what
//! it sends, what it shows, how it ends. The real server is met in the end-to-end tests.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod capabilities;
mod deploy;
mod egress;
mod failures;
mod inspect;
mod invoke;
mod login;
mod sandbox;
mod server;
mod users;
