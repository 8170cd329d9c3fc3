//! Slows down guessing of passwords without locking anyone out: an account's attempts and an
//! address's attempts are counted, and an address from which the account was logged in to before
//! is counted apart, so that strangers cannot use up the owner's attempts.
//!
//! All in memory and bounded: under an attack from very many addresses the oldest counts are
//! forgotten, and the two hashes at a time of `passwords` remain as the limit.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::buckets::{Buckets, Quota, Rate, Throttled, network};

const PER_ACCOUNT: Rate = Rate { capacity: 5.0, period: Duration::from_secs(60) };
const PER_ADDRESS: Rate = Rate { capacity: 20.0, period: Duration::from_secs(60) };
/// Codes of a second factor. Six digits are few, and three codes are right at any time: at this rate,
/// guessing takes years. Only who knows the password can use them up.
const CODES: Rate = Rate { capacity: 10.0, period: Duration::from_secs(60 * 60) };
/// Pairs of account and address kept as known.
const KNOWN_MAX: usize = 1_000;

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
        let of_account = inner.accounts.quota("account", &key, PER_ACCOUNT, now);
        let of_address = address.map(|address| inner.addresses.quota("address", &address, PER_ADDRESS, now));
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
}
