//! A server for tests, apps on it, and clients that also speak HTTP badly.

mod app;
mod bucket;
mod canary;
mod client;
mod database;
mod dns;
mod failpoint;
mod faults;
mod listener;
mod mail;
mod postgres;
pub(crate) mod process;
mod provider;
mod server;
mod world;

use std::time::{Duration, Instant};

pub(crate) use app::{NO_LIMITS, TestApp};
pub(crate) use bucket::Bucket;
pub(crate) use canary::Canary;
pub(crate) use client::{Client, Reply};
pub(crate) use dns::DnsServer;
pub(crate) use failpoint::{At, Failpoint};
pub(crate) use faults::Fault;
pub(crate) use listener::{Event, Listener};
pub(crate) use mail::{Certificates, FROM, MailServer};
pub(crate) use postgres::Postgres;
pub(crate) use provider::{Browser, PUBLIC_URL, Provider};
pub(crate) use server::{ADMIN, Disk, PASSWORD, SPARES, TestServer, WORKERS};
pub(crate) use world::World;

/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A row of the table that `make torture` prints; the number is that of `docs/attacks.md`.
pub(crate) fn print_row(number: &str, name: &str, expected: &str, seen: &str) {
    eprintln!("| {number:<2} {name:<22} | {expected:<48} | {seen:<22} |");
}

/// Polls until `look` finds something.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

/// The same for what takes longer than anything should but for what was done to it.
#[track_caller]
pub(crate) fn within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "after {} s still not: {what}", patience.as_secs());
        std::thread::sleep(Duration::from_millis(10));
    }
}
