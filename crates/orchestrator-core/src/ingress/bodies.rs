//! How much memory bodies of requests take, from their first byte until they are answered: all together, those for one
//! app, and those of one client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shared::fault::Code;
use shared::id::AppId;

use super::problem::Failure;
use super::rate::customer;

/// Bodies are counted in steps of so many bytes. Most are no longer than one, and cost nothing then: a head may take
/// as much.
const STEP_BYTES: u64 = 16 << 10;
/// No app and no client has more than this part of all, so that others find room beside it.
const SHARE: u64 = 2;

/// Counts the bytes of the bodies that are in memory.
#[derive(Debug)]
pub(super) struct Bodies {
    bytes_max: u64,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: u64,
    /// Only of those who have some.
    by_holder: HashMap<Holder, u64>,
}

/// Whose share a body is taken from: each is from two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Holder {
    App(AppId),
    Client(IpAddr),
}

/// The room that one body has; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Room<'a> {
    bodies: &'a Bodies,
    holders: [Holder; 2],
    bytes: u64,
}

impl Bodies {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, counts: Mutex::default() }
    }

    /// For a body that comes from this client to this app, of which nothing is here yet.
    pub(super) fn room(&self, app: AppId, client: IpAddr) -> Room<'_> {
        Room { bodies: self, holders: [Holder::App(app), Holder::Client(customer(client))], bytes: 0 }
    }

    /// Whether there was so much left.
    fn take(&self, holders: [Holder; 2], bytes: u64) -> bool {
        let mut counts = self.counts();
        let share = self.bytes_max / SHARE;
        let has_share = |holder: &Holder| counts.by_holder.get(holder).copied().unwrap_or(0) + bytes <= share;
        if counts.all + bytes > self.bytes_max || !holders.iter().all(has_share) {
            return false;
        }
        counts.all += bytes;
        for holder in holders {
            *counts.by_holder.entry(holder).or_default() += bytes;
        }
        true
    }

    fn give_back(&self, holders: [Holder; 2], bytes: u64) {
        let mut counts = self.counts();
        counts.all -= bytes;
        for holder in holders {
            if let Some(held) = counts.by_holder.get_mut(&holder) {
                *held -= bytes;
                if *held == 0 {
                    counts.by_holder.remove(&holder);
                }
            }
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room<'_> {
    /// Makes room for so many bytes in all; a refusal when there is none.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Failure> {
        let bytes = bytes as u64;
        if bytes <= self.bytes.max(STEP_BYTES) {
            return Ok(());
        }
        let bytes = bytes.next_multiple_of(STEP_BYTES);
        if !self.bodies.take(self.holders, bytes - self.bytes) {
            let detail = "bodies of requests take all the memory that they may have; try again in a second";
            return Err(Failure { retry_after_s: Some(1), ..Failure::new(Code::Overloaded, detail) });
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.bodies.give_back(self.holders, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::limits::{BODIES_BYTES_MIN, BODY_BYTES_MAX};

    use super::*;

    const STEP: usize = 16 << 10;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_largest_body_has_room_where_there_is_least() {
        let bodies = Bodies::new(BODIES_BYTES_MIN);
        let mut room = bodies.room(AppId::new(), ip("192.0.2.1"));
        assert!(room.grow(BODY_BYTES_MAX as usize).is_ok());
    }

    #[test]
    fn small_bodies_cost_nothing_and_a_large_one_gives_back_what_it_had() {
        let bodies = Bodies::new(8 * STEP_BYTES);
        let mut room = bodies.room(AppId::new(), ip("192.0.2.1"));
        assert!(room.grow(0).is_ok() && room.grow(STEP).is_ok());
        assert_eq!(bodies.counts().all, 0);
        assert!(room.grow(STEP + 1).is_ok() && room.grow(2 * STEP).is_ok());
        assert_eq!(bodies.counts().all, 2 * STEP_BYTES);
        drop(room);
        let counts = bodies.counts();
        assert!(counts.all == 0 && counts.by_holder.is_empty());
    }

    #[test]
    fn attack_neither_an_app_nor_a_client_takes_all_room() {
        let bodies = Bodies::new(8 * STEP_BYTES);
        let [attacked, other] = [AppId::new(), AppId::new()];
        let mut held = bodies.room(attacked, ip("2001:db8::1"));
        assert!(held.grow(4 * STEP).is_ok());
        let refused = held.grow(4 * STEP + 1).unwrap_err();
        assert_eq!((refused.code, refused.retry_after_s), (Code::Overloaded, Some(1)));
        let two = |app, client| bodies.room(app, ip(client)).grow(2 * STEP).is_ok();
        assert!(!two(attacked, "192.0.2.1"), "another client, the same app");
        assert!(!two(other, "2001:db8::2"), "another app, the same customer");
        assert!(two(other, "192.0.2.1"));
        assert!(bodies.room(attacked, ip("2001:db8::1")).grow(STEP).is_ok(), "small ones always have room");
    }

    #[test]
    fn all_together_have_no_more_than_there_is() {
        let bodies = Bodies::new(8 * STEP_BYTES);
        let mut rooms = [1, 2, 3].map(|n| bodies.room(AppId::new(), IpAddr::from([192, 0, 2, n])));
        assert!(rooms[0].grow(4 * STEP).is_ok() && rooms[1].grow(3 * STEP).is_ok());
        assert!(rooms[2].grow(2 * STEP).is_err(), "one step is left");
        drop(rooms);
        assert!(bodies.room(AppId::new(), ip("192.0.2.3")).grow(2 * STEP).is_ok());
    }
}
