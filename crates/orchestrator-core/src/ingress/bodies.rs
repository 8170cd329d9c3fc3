//! How much memory bodies take: those of requests from their first byte until they are answered, and those of answers
//! until they are taken. All together, those of one app, those of one client, those of one client of one app, and those of
//! one person who asks the admin API.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::fault::Code;
use shared::http::customer;
use shared::id::{AppId, UserId};
use shared::ports::{HoldBody, NoRoom};

use super::problem::Failure;

/// Bodies are counted in steps of so many bytes. Most are no longer than one, and cost nothing then: a head may take
/// as much.
const STEP_BYTES: u64 = 16 << 10;
/// How many such small ones a client has for nothing, on all its connections. All clients together have as much for
/// nothing as there is for larger ones.
const CLIENT_SMALL_MAX: u64 = 256;

/// Counts the bytes of the bodies that are in memory.
#[derive(Debug, Clone)]
pub(super) struct Bodies(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes_max: u64,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes, without those of small ones.
    all: u64,
    /// Small ones that cost nothing.
    small: u64,
    /// Only of those who have some.
    by_holder: HashMap<Holder, Held>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Held {
    bytes: u64,
    /// Counted for clients and people only.
    small: u64,
}

/// Whose share a body is taken from; most are from one of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Holder {
    App(AppId),
    Client(IpAddr),
    ClientOfApp(AppId, IpAddr),
    /// Instead of the client: wherever somebody comes from, they have one share, and leave their neighbours theirs.
    Person(UserId),
}

/// The room that one request has: for its body, and then for its answer. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    bodies: Bodies,
    client: IpAddr,
    /// Who asks the admin API, once it is known.
    person: Option<UserId>,
    app: Option<AppId>,
    bytes: u64,
    /// Has a small body that costs nothing.
    is_small: bool,
}

impl Bodies {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self(Arc::new(Shared { bytes_max, counts: Mutex::default() }))
    }

    /// For a request of this client, of which nothing is here yet.
    pub(super) fn room(&self, client: IpAddr) -> Room {
        let (bodies, client) = (self.clone(), customer(client));
        Room { bodies, client, person: None, app: None, bytes: 0, is_small: false }
    }

    /// Whether there was so much left.
    ///
    /// Nobody has more than what is left then, so there is always some for who comes next: one alone may have half, two a
    /// third each. So it is with the clients of an app and what that may have, except for the only body of one of them
    /// there: the largest is as long as all of that.
    fn take(&self, room: &Room, bytes: u64) -> bool {
        let mut counts = self.counts();
        let left = self.0.bytes_max - counts.all;
        let has_share = |holder| {
            let held = counts.bytes_of(holder);
            let share = match holder {
                Holder::App(_) | Holder::Client(_) | Holder::Person(_) => (held + left) / 2,
                Holder::ClientOfApp(..) if held == room.bytes => held + left,
                Holder::ClientOfApp(app, _) => {
                    let left_of_app = left.saturating_sub(counts.bytes_of(Holder::App(app))) / 2;
                    (held + left_of_app) / 2
                }
            };
            held + bytes <= share
        };
        if !room.holders().all(has_share) {
            return false;
        }
        counts.all += bytes;
        for holder in room.holders() {
            counts.by_holder.entry(holder).or_default().bytes += bytes;
        }
        true
    }

    /// Whether this client or person may have another small body for nothing.
    fn take_small(&self, holder: Holder) -> bool {
        let mut counts = self.counts();
        let held = counts.by_holder.get(&holder).map_or(0, |held| held.small);
        if held >= CLIENT_SMALL_MAX || counts.small >= self.0.bytes_max / STEP_BYTES {
            return false;
        }
        counts.small += 1;
        counts.by_holder.entry(holder).or_default().small += 1;
        true
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What bodies take in memory, without small ones.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.counts().all
    }
}

impl Counts {
    fn bytes_of(&self, holder: Holder) -> u64 {
        self.by_holder.get(&holder).map_or(0, |held| held.bytes)
    }

    fn give_back(&mut self, holder: Holder, bytes: u64) {
        if let Some(held) = self.by_holder.get_mut(&holder) {
            held.bytes -= bytes;
        }
        self.forget_if_empty(holder);
    }

    fn give_back_small(&mut self, holder: Holder) {
        self.small -= 1;
        if let Some(held) = self.by_holder.get_mut(&holder) {
            held.small -= 1;
        }
        self.forget_if_empty(holder);
    }

    fn forget_if_empty(&mut self, holder: Holder) {
        if self.by_holder.get(&holder).is_some_and(|held| held.bytes == 0 && held.small == 0) {
            self.by_holder.remove(&holder);
        }
    }
}

impl Room {
    /// Says for which app the request is, before there is anything of it.
    pub(super) fn set_app(&mut self, app: AppId) {
        self.clear();
        self.app = Some(app);
    }

    /// Makes room for so many bytes in all.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let bytes = bytes as u64;
        if bytes <= self.bytes || (bytes <= STEP_BYTES && self.is_small_for_nothing()) {
            return Ok(());
        }
        let bytes = bytes.next_multiple_of(STEP_BYTES);
        if !self.bodies.take(self, bytes - self.bytes) {
            return Err(NoRoom);
        }
        self.bytes = bytes;
        if std::mem::take(&mut self.is_small) {
            self.bodies.counts().give_back_small(self.asker());
        }
        Ok(())
    }

    /// Gives back what there is.
    pub(super) fn clear(&mut self) {
        let (bytes, is_small) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.is_small));
        if bytes == 0 && !is_small {
            return;
        }
        let mut counts = self.bodies.counts();
        if is_small {
            counts.give_back_small(self.asker());
        }
        if bytes > 0 {
            counts.all -= bytes;
            for holder in self.holders() {
                counts.give_back(holder, bytes);
            }
        }
    }

    fn is_small_for_nothing(&mut self) -> bool {
        if !self.is_small && self.bytes == 0 {
            self.is_small = self.bodies.take_small(self.asker());
        }
        self.is_small
    }

    /// What there is of it, which leaves nothing here.
    fn take(&mut self) -> Self {
        let (bodies, client, person, app) = (self.bodies.clone(), self.client, self.person, self.app);
        let nothing = Self { bodies, client, person, app, bytes: 0, is_small: false };
        std::mem::replace(self, nothing)
    }

    fn asker(&self) -> Holder {
        self.person.map_or(Holder::Client(self.client), Holder::Person)
    }

    fn holders(&self) -> impl Iterator<Item = Holder> + use<> {
        let client = self.client;
        let of_app = self.app.map(|app| [Holder::App(app), Holder::ClientOfApp(app, client)]);
        std::iter::once(self.asker()).chain(of_app.into_iter().flatten())
    }
}

impl From<NoRoom> for Failure {
    fn from(refused: NoRoom) -> Self {
        Self { retry_after_s: Some(1), ..Self::new(Code::Overloaded, refused.to_string()) }
    }
}

/// A room that the platform's handlers fill: they alone know what they keep of a body, and for whom.
#[derive(Debug)]
pub(super) struct Lent(Mutex<Room>);

impl Lent {
    /// Leaves an empty room with its owner.
    pub(super) fn of(room: &mut Room) -> Self {
        Self(Mutex::new(room.take()))
    }

    /// The room as it was filled. Who still has this has an empty one from here on.
    pub(super) fn take_back(&self) -> Room {
        self.room().take()
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HoldBody for Lent {
    fn hold(&self, person: Option<UserId>, bytes: usize) -> Result<(), NoRoom> {
        let mut room = self.room();
        if room.person != person {
            room.clear();
            room.person = person;
        }
        room.grow(bytes)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use shared::limits::{BODIES_BYTES_MIN, BODY_BYTES_MAX, MANIFEST_BYTES_MAX};

    use super::*;

    const STEP: usize = 16 << 10;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn room(bodies: &Bodies, app: AppId, client: &str) -> Room {
        let mut room = bodies.room(ip(client));
        room.set_app(app);
        room
    }

    /// As many bodies of so many steps as there is room for.
    fn fill(bodies: &Bodies, app: AppId, client: &str, steps: usize) -> Vec<Room> {
        let next = || {
            let mut room = room(bodies, app, client);
            room.grow(steps * STEP).is_ok().then_some(room)
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn the_largest_body_has_room_where_there_is_least() {
        let bodies = Bodies::new(BODIES_BYTES_MIN);
        let mut room = room(&bodies, AppId::new(), "192.0.2.1");
        // As it comes in, and at once.
        for bytes in (0..=BODY_BYTES_MAX as usize).step_by(5 * STEP / 2) {
            assert!(room.grow(bytes).is_ok(), "{bytes}");
        }
        assert!(room.grow(BODY_BYTES_MAX as usize).is_ok());
        room.clear();
        assert!(room.grow(BODY_BYTES_MAX as usize).is_ok());
    }

    #[test]
    fn small_bodies_cost_nothing_and_a_large_one_gives_back_what_it_had() {
        let bodies = Bodies::new(8 * STEP_BYTES);
        let mut room = room(&bodies, AppId::new(), "192.0.2.1");
        let small = || bodies.counts().small;
        assert!(room.grow(0).is_ok());
        assert_eq!((bodies.bytes(), small()), (0, 0));
        assert!(room.grow(1).is_ok() && room.grow(STEP).is_ok());
        assert_eq!((bodies.bytes(), small()), (0, 1));
        assert!(room.grow(STEP + 1).is_ok() && room.grow(2 * STEP).is_ok());
        assert_eq!((bodies.bytes(), small()), (2 * STEP_BYTES, 0));
        drop(room);
        let counts = bodies.counts();
        assert!(counts.all == 0 && counts.by_holder.is_empty());
    }

    #[test]
    fn attack_a_client_of_an_app_leaves_some_of_it_to_others() {
        let bodies = Bodies::new(64 * STEP_BYTES);
        let [attacked, other] = [AppId::new(), AppId::new()];
        let held = fill(&bodies, attacked, "2001:db8::1", 2);
        assert_eq!(held.len(), 8, "a quarter of all: half of what an app may have");
        let refused = Failure::from(room(&bodies, attacked, "2001:db8::2").grow(2 * STEP).unwrap_err());
        assert_eq!((refused.code, refused.retry_after_s), (Code::Overloaded, Some(1)));
        let of_another = fill(&bodies, attacked, "192.0.2.1", 8);
        assert!(!of_another.is_empty(), "another client, the same app");
        let elsewhere = fill(&bodies, other, "2001:db8::3", 2);
        assert!(!elsewhere.is_empty(), "the same customer, another app");
        assert!(room(&bodies, other, "192.0.2.2").grow(4 * STEP).is_ok());
    }

    #[test]
    fn attack_two_clients_of_two_apps_leave_room_for_a_third() {
        let bodies = Bodies::new(64 * STEP_BYTES);
        let apps = [AppId::new(), AppId::new()];
        let held: Vec<_> = ["192.0.2.1", "192.0.2.2"]
            .into_iter()
            .flat_map(|client| apps.map(|app| fill(&bodies, app, client, 2)))
            .collect();
        assert!(held.iter().all(|bodies| !bodies.is_empty()));
        for app in apps {
            assert!(room(&bodies, app, "192.0.2.3").grow(4 * STEP).is_ok());
        }
        assert!(room(&bodies, AppId::new(), "192.0.2.3").grow(8 * STEP).is_ok());
    }

    #[test]
    fn all_together_have_no_more_than_there_is() {
        let bodies = Bodies::new(8 * STEP_BYTES);
        let rooms: Vec<_> =
            (0..=255).flat_map(|n| fill(&bodies, AppId::new(), &format!("192.0.2.{n}"), 2)).collect();
        assert!(bodies.bytes() <= 8 * STEP_BYTES && bodies.room(ip("2001:db8::1")).grow(2 * STEP).is_err());
        drop(rooms);
        assert!(bodies.room(ip("2001:db8::1")).grow(2 * STEP).is_ok());
    }

    #[test]
    fn attack_small_bodies_without_end_are_counted() {
        let bodies = Bodies::new(1024 * STEP_BYTES);
        let app = AppId::new();
        let held = fill(&bodies, app, "192.0.2.1", 1);
        assert_eq!(held.len(), 256 + 256, "some for nothing, and a quarter of all");
        assert_eq!(bodies.bytes(), 256 * STEP_BYTES);
        assert!(room(&bodies, app, "192.0.2.2").grow(STEP).is_ok());
        drop(held);
        let counts = bodies.counts();
        assert!(counts.by_holder.is_empty() && counts.small == 0 && counts.all == 0);
    }

    #[test]
    fn attack_small_bodies_of_many_clients_are_counted() {
        let bodies = Bodies::new(8 * STEP_BYTES);
        let one = |n| {
            let mut room = bodies.room([192, 0, 2, n].into());
            room.grow(STEP).is_ok().then_some(room)
        };
        let held: Vec<_> = (0..=255).filter_map(one).collect();
        assert!(held.len() < 8 + 8, "{}", held.len());
    }

    /// What is lent to as many requests of a person, each from an address of its own, as have room for so much.
    fn fill_as(bodies: &Bodies, person: UserId, bytes: usize) -> Vec<Lent> {
        let next = |n: u8| {
            let lent = Lent::of(&mut bodies.room([192, 0, 2, n].into()));
            lent.hold(Some(person), bytes).is_ok().then_some(lent)
        };
        (0..=255).map_while(next).collect()
    }

    #[test]
    fn attack_a_person_has_one_share_wherever_they_come_from() {
        let bodies = Bodies::new(32 * MANIFEST_BYTES_MAX as u64);
        let [attacker, other] = [UserId::new(), UserId::new()];
        let held = fill_as(&bodies, attacker, MANIFEST_BYTES_MAX - 1);
        assert_eq!(held.len(), 16, "half of all");
        let mut at_the_same_address = bodies.room(ip("192.0.2.1"));
        let lent = Lent::of(&mut at_the_same_address);
        assert_eq!(lent.hold(Some(attacker), STEP + 1), Err(NoRoom));
        assert_eq!(lent.hold(Some(other), MANIFEST_BYTES_MAX), Ok(()));
        // Who logs in, or sends an app a request, is nobody yet.
        assert!(bodies.room(ip("192.0.2.1")).grow(MANIFEST_BYTES_MAX).is_ok());
        drop((held, lent));
        let counts = bodies.counts();
        assert!(counts.all == 0 && counts.by_holder.is_empty());
    }

    #[test]
    fn what_is_lent_is_kept_until_it_is_taken_back_or_nobody_has_it() {
        let bodies = Bodies::new(64 * STEP_BYTES);
        let mut room = bodies.room(ip("192.0.2.1"));
        let lent = Arc::new(Lent::of(&mut room));
        assert!(lent.hold(None, 2 * STEP).is_ok() && lent.hold(None, STEP).is_ok());
        assert_eq!(bodies.bytes(), 2 * STEP_BYTES);
        let works_on = Arc::clone(&lent);
        drop((room, lent));
        assert_eq!(bodies.bytes(), 2 * STEP_BYTES, "the client has left, and somebody works on");
        let taken_back = works_on.take_back();
        drop(works_on);
        assert_eq!(bodies.bytes(), 2 * STEP_BYTES);
        drop(taken_back);
        assert_eq!(bodies.bytes(), 0);
    }

    #[test]
    fn small_bodies_of_a_person_cost_nothing_of_their_neighbours() {
        let bodies = Bodies::new(1024 * STEP_BYTES);
        let held = fill_as(&bodies, UserId::new(), STEP);
        assert_eq!((held.len(), bodies.bytes()), (256, 0));
        let mut room = bodies.room(ip("192.0.2.1"));
        assert!(room.grow(STEP).is_ok());
        assert_eq!(bodies.bytes(), 0);
        drop((held, room));
        let counts = bodies.counts();
        assert!(counts.by_holder.is_empty() && counts.small == 0);
    }
}
