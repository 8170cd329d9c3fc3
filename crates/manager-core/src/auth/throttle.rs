//! Slows down guessing of passwords without locking anyone out: an account's attempts and an
//! address's attempts are counted, and an address from which the account was logged in to before
//! is counted apart, so that strangers cannot use up the owner's attempts.
//!
//! All in memory and bounded: under an attack from very many addresses the oldest counts are
//! forgotten, and the two hashes at a time of `passwords` remain as the limit.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const PER_ACCOUNT: Rate = Rate { capacity: 5.0, period: Duration::from_secs(60) };
const PER_ADDRESS: Rate = Rate { capacity: 20.0, period: Duration::from_secs(60) };
/// Codes of a second factor. Six digits are few, and three codes are right at any time: at this rate,
/// guessing takes years. Only who knows the password can use them up.
const CODES: Rate = Rate { capacity: 10.0, period: Duration::from_secs(60 * 60) };
/// Counts kept of each kind: about a megabyte.
const COUNTS_MAX: usize = 10_000;
/// Pairs of account and address kept as known.
const KNOWN_MAX: usize = 1_000;

/// So many attempts at once, and as many again in each period.
#[derive(Debug, Clone, Copy)]
struct Rate {
    capacity: f64,
    period: Duration,
}

/// How one of the limits on guessing stands for a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) name: &'static str,
    /// Attempts in a period.
    pub(crate) attempts: u32,
    pub(crate) period_s: u64,
    pub(crate) left: u32,
    /// Until all of them are there again.
    pub(crate) reset_s: u32,
}

/// Too many attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Throttled {
    pub(super) retry_after_s: u32,
}

#[derive(Debug, Default)]
pub(super) struct Throttle {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    accounts: Buckets<(String, Option<IpAddr>)>,
    addresses: Buckets<IpAddr>,
    codes: Buckets<String>,
    known: VecDeque<(String, IpAddr)>,
}

impl Throttle {
    /// Counts an attempt, or refuses it.
    pub(super) fn admit(
        &self,
        account: &str,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<(), Throttled> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let address = address.map(network);
        if let Some(address) = address {
            inner.addresses.take(address, PER_ADDRESS, now)?;
        }
        let key = inner.account_key(account, address);
        inner.accounts.take(key, PER_ACCOUNT, now)
    }

    /// How many attempts a caller has left, without counting one.
    pub(super) fn quotas(&self, account: &str, address: Option<IpAddr>, now: Instant) -> Vec<Quota> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let address = address.map(network);
        let key = inner.account_key(account, address);
        let of_account = quota("account", inner.accounts.left(&key, PER_ACCOUNT, now), PER_ACCOUNT);
        let of_address = address
            .map(|address| quota("address", inner.addresses.left(&address, PER_ADDRESS, now), PER_ADDRESS));
        std::iter::once(of_account).chain(of_address).collect()
    }

    /// Gives back the attempt of a login that succeeded, and remembers the address.
    pub(super) fn succeeded(&self, account: &str, address: Option<IpAddr>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let address = address.map(network);
        let key = inner.account_key(account, address);
        inner.accounts.give_back(&key, PER_ACCOUNT);
        let Some(address) = address else { return };
        inner.addresses.give_back(&address, PER_ADDRESS);
        if key.1.is_none() {
            if inner.known.len() == KNOWN_MAX {
                inner.known.pop_front();
            }
            inner.known.push_back((key.0, address));
        }
    }

    /// Counts a code that is about to be compared, or refuses it.
    pub(super) fn admit_code(&self, account: &str, now: Instant) -> Result<(), Throttled> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.codes.take(account.to_lowercase(), CODES, now)
    }

    /// Gives back the attempt of a code that was right or was not there.
    pub(super) fn code_was_not_wrong(&self, account: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.codes.give_back(&account.to_lowercase(), CODES);
    }
}

impl Inner {
    fn account_key(&self, account: &str, address: Option<IpAddr>) -> (String, Option<IpAddr>) {
        let account = account.to_lowercase();
        let known = address.filter(|address| self.known.iter().any(|(a, b)| *a == account && b == address));
        (account, known)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and the capacity, and between 0 and the period, by construction"
)]
fn quota(name: &'static str, left: f64, rate: Rate) -> Quota {
    let reset = (rate.capacity - left) * rate.period.as_secs_f64() / rate.capacity;
    Quota {
        name,
        attempts: rate.capacity as u32,
        period_s: rate.period.as_secs(),
        left: left as u32,
        reset_s: reset.ceil() as u32,
    }
}

/// One host, or the network that one IPv6 customer gets whole.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn refilled(self, rate: Rate, now: Instant) -> f64 {
        let periods = now.saturating_duration_since(self.at).as_secs_f64() / rate.period.as_secs_f64();
        (self.left + periods * rate.capacity).min(rate.capacity)
    }
}

#[derive(Debug)]
struct Buckets<K>(HashMap<K, Bucket>);

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    fn take(&mut self, key: K, rate: Rate, now: Instant) -> Result<(), Throttled> {
        self.make_room(&key, rate, now);
        let bucket = self.0.entry(key).or_insert(Bucket { left: rate.capacity, at: now });
        let left = bucket.refilled(rate, now);
        *bucket = Bucket { left, at: now };
        if left < 1.0 {
            let wait = (1.0 - left) * rate.period.as_secs_f64() / rate.capacity;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and the period by construction"
            )]
            return Err(Throttled { retry_after_s: wait.ceil() as u32 });
        }
        bucket.left -= 1.0;
        Ok(())
    }

    fn left(&self, key: &K, rate: Rate, now: Instant) -> f64 {
        self.0.get(key).map_or(rate.capacity, |bucket| bucket.refilled(rate, now))
    }

    fn give_back(&mut self, key: &K, rate: Rate) {
        if let Some(bucket) = self.0.get_mut(key) {
            bucket.left = (bucket.left + 1.0).min(rate.capacity);
        }
    }

    fn make_room(&mut self, key: &K, rate: Rate, now: Instant) {
        if self.0.len() < COUNTS_MAX || self.0.contains_key(key) {
            return;
        }
        self.0.retain(|_, bucket| bucket.refilled(rate, now) < rate.capacity);
        if self.0.len() >= COUNTS_MAX {
            let oldest = self.0.iter().min_by_key(|(_, bucket)| bucket.at).map(|(key, _)| key.clone());
            oldest.map(|key| self.0.remove(&key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u32) -> Option<IpAddr> {
        Some(IpAddr::V4(n.into()))
    }

    #[test]
    fn the_sixth_attempt_on_an_account_in_a_minute_waits() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..5 {
            assert_eq!(throttle.admit("ada", ip(n), now), Ok(()));
        }
        assert_eq!(throttle.admit("ADA", ip(6), now), Err(Throttled { retry_after_s: 12 }));
        assert_eq!(throttle.admit("ada", ip(6), now + Duration::from_secs(12)), Ok(()));
    }

    #[test]
    fn the_eleventh_wrong_code_in_an_hour_waits_and_right_ones_are_not_counted() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..30 {
            assert_eq!(throttle.admit_code("ada", now), Ok(()));
            throttle.code_was_not_wrong("ada");
        }
        for _ in 0..10 {
            assert_eq!(throttle.admit_code("ada", now), Ok(()));
        }
        assert_eq!(throttle.admit_code("Ada", now), Err(Throttled { retry_after_s: 360 }));
        assert_eq!(throttle.admit_code("bob", now), Ok(()));
        assert_eq!(throttle.admit_code("ada", now + Duration::from_secs(360)), Ok(()));
    }

    #[test]
    fn strangers_cannot_use_up_the_attempts_of_a_known_address() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        throttle.admit("ada", ip(1), now).unwrap();
        throttle.succeeded("ada", ip(1));
        for n in 10..15 {
            throttle.admit("ada", ip(n), now).unwrap();
        }
        assert!(throttle.admit("ada", ip(16), now).is_err());
        assert_eq!(throttle.admit("ada", ip(1), now), Ok(()));
    }

    #[test]
    fn the_twenty_first_attempt_from_an_address_in_a_minute_waits() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..20 {
            assert_eq!(throttle.admit(&format!("user{n}"), ip(1), now), Ok(()));
        }
        assert_eq!(throttle.admit("other", ip(1), now), Err(Throttled { retry_after_s: 3 }));
        assert_eq!(throttle.admit("other", ip(2), now), Ok(()));
    }

    #[test]
    fn logins_that_succeed_are_not_counted() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..100 {
            throttle.admit("ada", ip(1), now).unwrap();
            throttle.succeeded("ada", ip(1));
        }
    }

    #[test]
    fn what_is_left_is_said_and_comes_back_with_time() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let of = |at| {
            let quotas = throttle.quotas("ada", ip(1), at);
            quotas.iter().map(|quota| (quota.name, quota.left, quota.reset_s)).collect::<Vec<_>>()
        };
        assert_eq!(of(now), [("account", 5, 0), ("address", 20, 0)]);
        throttle.admit("ada", ip(1), now).unwrap();
        assert_eq!(of(now), [("account", 4, 12), ("address", 19, 3)]);
        assert_eq!(of(now + Duration::from_secs(3)), [("account", 4, 9), ("address", 20, 0)]);
        assert_eq!(throttle.quotas("ada", None, now).len(), 1);
    }

    #[test]
    fn addresses_of_one_v6_network_count_as_one() {
        let [a, b, c] =
            ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|t| network(t.parse().unwrap()));
        assert_eq!(a, b);
        assert_ne!(a, c);
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), "10.0.0.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn counts_are_bounded() {
        let (mut buckets, now) = (Buckets::default(), Instant::now());
        for n in 0..COUNTS_MAX + 5 {
            buckets.take(n, PER_ACCOUNT, now).unwrap();
        }
        assert!(buckets.0.len() <= COUNTS_MAX);
    }
}
