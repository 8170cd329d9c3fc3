//! Floods of HTTP/2: much work for the server by little work of the client.

use std::time::Instant;

use super::super::Target;
use super::wire::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Fate, HEADERS, PING, RST_STREAM, SETTINGS, Wire, frame,
    head, literal,
};
use crate::harness::process;

/// What the server may need for a flood, beyond what it had.
const MEMORY_KIB_MAX: u64 = 64 << 10;
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();
/// Frames are sent so many at a time: the server's side reads as many at once.
const BATCH: u32 = 200;

/// Sends batches until the server takes no more, or so many; then says what became of the connection.
fn flood(target: &Target, name: &str, batches: u32, batch: impl Fn(u32) -> Vec<u8>) -> Fate {
    let pid = target.server.pid();
    let (before, ticks, since) = (process::resident_kib(pid), process::ticks(pid), Instant::now());
    let mut wire = Wire::open(target.server.port);
    let sent = (0..batches).take_while(|at| wire.send(&batch(*at))).count();
    let fate = wire.leave();
    let cores = (process::ticks(pid) - ticks) as f64 / 100.0 / since.elapsed().as_secs_f64();
    let grown = process::resident_kib(pid).saturating_sub(before);
    let reason = fate.goaway.map_or_else(|| "none".to_owned(), |code| code.to_string());
    let seen = format!("goaway {reason}, {sent} of {batches} sent, {cores:.1} cores, {grown} KiB");
    target.row(name, "closed; memory flat", &seen);
    assert!(grown < MEMORY_KIB_MAX, "{name}: {seen}");
    fate
}

/// As many frames as a batch has, each made for a stream of its own.
fn on_streams(batch: u32, frames: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (batch * BATCH..(batch + 1) * BATCH).flat_map(|number| frames(2 * number + 1)).collect()
}

#[test]
fn attack_53_rapid_reset() {
    let target = Target::new("53");
    let head = head("GET", "/hello/pi");
    let fate = flood(&target, "rapid reset", 500, |batch| {
        on_streams(batch, |stream| {
            let open = frame(HEADERS, END_STREAM | END_HEADERS, stream, &head);
            [open, frame(RST_STREAM, 0, stream, &CANCEL)].concat()
        })
    });
    assert!(fate.is_closed && fate.goaway.is_none_or(|code| code != 0), "{fate:?}");
    target.ends_unharmed();
}

#[test]
fn attack_53_more_streams_than_there_may_be() {
    let target = Target::new("53");
    let head = head("POST", "/hello/pi");
    let fate = flood(&target, "10,000 streams", 50, |batch| {
        on_streams(batch, |stream| frame(HEADERS, END_HEADERS, stream, &head))
    });
    assert!(fate.is_closed && (fate.goaway.is_some_and(|code| code != 0) || fate.resets > 0), "{fate:?}");
    assert!(fate.answers <= 100, "{fate:?}");
    target.ends_unharmed();
}

#[test]
fn attack_53_a_head_that_goes_on_and_on() {
    let target = Target::new("53");
    let head = head("GET", "/hello/pi");
    let more = frame(CONTINUATION, 0, 1, &literal("x", "y")).repeat(BATCH as usize);
    let fate = flood(&target, "CONTINUATION", 500, |batch| match batch {
        0 => frame(HEADERS, END_STREAM, 1, &head),
        _ => more.clone(),
    });
    assert!(fate.is_closed && fate.answers == 0, "{fate:?}");
    target.ends_unharmed();
}

#[test]
fn attack_53_a_head_that_unpacks_to_megabytes() {
    let target = Target::new("53");
    // One header of 4,000 bytes to be remembered, and 12,000 times that one: 48 MB in one frame.
    let long = [&[0x40, 1, b'a', 0x7f, 0xa1, 0x1e][..], &[b'b'; 4_000]].concat();
    let bomb = [head("GET", "/hello/pi"), long, vec![0xbe; 12_000]].concat();
    let fate = flood(&target, "HPACK bomb", 1, |_| frame(HEADERS, END_STREAM | END_HEADERS, 1, &bomb));
    assert!(fate.is_closed, "{fate:?}");
    target.ends_unharmed();
}

#[test]
fn attack_53_frames_that_say_nothing() {
    let target = Target::new("53");
    let post =
        [head("POST", "/api/v1/admin/auth/login"), literal("content-type", "application/json")].concat();
    let empty = frame(DATA, 0, 1, &[]).repeat(BATCH as usize);
    let fate = flood(&target, "empty DATA", 500, |batch| match batch {
        0 => frame(HEADERS, END_HEADERS, 1, &post),
        _ => empty.clone(),
    });
    assert!(fate.is_closed, "{fate:?}");
    for (name, nothing) in [("SETTINGS", frame(SETTINGS, 0, 0, &[])), ("PING", frame(PING, 0, 0, &[0; 8]))] {
        let nothing = nothing.repeat(BATCH as usize);
        let fate = flood(&target, name, 500, |_| nothing.clone());
        assert!(fate.is_closed, "{name}: {fate:?}");
    }
    target.ends_unharmed();
}
