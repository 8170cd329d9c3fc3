//! Token buckets by key: so many at once, and as many again in each period. All in memory and bounded:
//! under a flood from very many keys the full buckets are forgotten first, then the oldest.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Counts kept of each kind: about a megabyte.
const COUNTS_MAX: usize = 10_000;

/// So many attempts at once, and as many again in each period.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) capacity: f64,
    pub(crate) period: Duration,
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
pub(crate) struct Throttled {
    pub(crate) retry_after_s: u32,
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
pub(crate) fn network(address: IpAddr) -> IpAddr {
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
pub(crate) struct Buckets<K>(HashMap<K, Bucket>);

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    /// Counts one, or refuses it.
    pub(crate) fn take(&mut self, key: K, rate: Rate, now: Instant) -> Result<(), Throttled> {
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

    /// How it stands for this key, without counting.
    pub(crate) fn quota(&self, name: &'static str, key: &K, rate: Rate, now: Instant) -> Quota {
        quota(name, self.left(key, rate, now), rate)
    }

    fn left(&self, key: &K, rate: Rate, now: Instant) -> f64 {
        self.0.get(key).map_or(rate.capacity, |bucket| bucket.refilled(rate, now))
    }

    /// Takes a count back.
    pub(crate) fn give_back(&mut self, key: &K, rate: Rate) {
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
            buckets.take(n, RATE, now).unwrap();
        }
        assert!(buckets.0.len() <= COUNTS_MAX);
    }

    const RATE: Rate = Rate { capacity: 5.0, period: Duration::from_secs(60) };
}
