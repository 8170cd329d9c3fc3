//! Rate limits of routes: the generic cell rate algorithm, which needs one number for each client.
//!
//! Counted by each server alone, and from anew after a restart. Not a library: the keyed limiters
//! there are grow with every address that calls, until somebody sweeps them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::http::customer;
use shared::id::RouteId;
use shared::route::{RateLimit, RatePer};

/// Clients of routes that are counted at once, at about 64 bytes each. When there are more, those
/// without a number of their own share one for their route: a flood of addresses costs itself.
const COUNTED_MAX: usize = 65_536;
/// Looking for numbers that can be forgotten goes through all of them, so it is done this rarely.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Whose requests a number counts: a client's, or all of a route.
type Key = (RouteId, Option<IpAddr>);

/// How often each limited route was called lately.
#[derive(Debug)]
pub(crate) struct Rates {
    began: Instant,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// When, in nanoseconds from the beginning, everything that came so far will be paid off.
    paid_at: HashMap<Key, u64>,
    swept_at: u64,
}

impl Default for Rates {
    fn default() -> Self {
        Self { began: Instant::now(), counts: Mutex::default() }
    }
}

impl Rates {
    /// Counts a request; when it is one too many, answers in how many seconds another may come.
    pub(crate) fn count(&self, route: RouteId, limit: RateLimit, client: IpAddr) -> Result<(), u32> {
        self.count_at(route, limit, client, self.began.elapsed())
    }

    fn count_at(&self, route: RouteId, limit: RateLimit, client: IpAddr, now: Duration) -> Result<(), u32> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let period = u64::from(limit.per_s) * 1_000_000_000;
        let cost = period / u64::from(limit.requests.max(1));
        let client = match limit.by {
            RatePer::Client => Some(customer(client)),
            RatePer::Route => None,
        };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let paid_at = counts.entry((route, client), now);
        let then = (*paid_at).max(now) + cost;
        match (then - now).checked_sub(period).filter(|over| *over > 0) {
            None => {
                *paid_at = then;
                Ok(())
            }
            Some(over) => Err(u32::try_from(over.div_ceil(1_000_000_000)).unwrap_or(u32::MAX)),
        }
    }
}

impl Counts {
    fn entry(&mut self, key: Key, now: u64) -> &mut u64 {
        let is_full = self.paid_at.len() >= COUNTED_MAX && !self.paid_at.contains_key(&key);
        if is_full && now.saturating_sub(self.swept_at) >= u64::try_from(SWEEP_EVERY.as_nanos()).unwrap_or(0)
        {
            // What is paid off is as good as never seen.
            self.paid_at.retain(|_, paid_at| *paid_at > now);
            self.swept_at = now;
        }
        let is_full = is_full && self.paid_at.len() >= COUNTED_MAX;
        self.paid_at.entry(if is_full { (key.0, None) } else { key }).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: RateLimit = RateLimit { requests: 3, per_s: 6, by: RatePer::Client };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_is_let_through_and_then_one_at_a_time() {
        let (rates, route) = (Rates::default(), RouteId::new());
        let at = |s: u64| rates.count_at(route, LIMIT, ip("192.0.2.1"), Duration::from_secs(s));
        assert_eq!([at(100), at(100), at(100), at(100)], [Ok(()), Ok(()), Ok(()), Err(2)]);
        assert_eq!([at(101), at(102), at(102)], [Err(1), Ok(()), Err(2)]);
        // After a whole period the burst is back.
        assert_eq!([at(110), at(110), at(110), at(110)], [Ok(()), Ok(()), Ok(()), Err(2)]);
    }

    #[test]
    fn clients_and_routes_are_counted_apart_unless_the_route_is_what_counts() {
        let rates = Rates::default();
        let [a, b] = [RouteId::new(), RouteId::new()];
        let one = RateLimit { requests: 1, ..LIMIT };
        let count = |route, client| rates.count_at(route, one, ip(client), Duration::ZERO).is_ok();
        assert!(count(a, "192.0.2.1") && count(a, "192.0.2.2") && count(b, "192.0.2.1"));
        assert!(!count(a, "::ffff:192.0.2.1"), "the same client by another name");
        assert!(count(a, "2001:db8::1") && !count(a, "2001:db8::ffff:2") && count(a, "2001:db8:0:1::1"));
        let whole = RateLimit { by: RatePer::Route, ..one };
        let c = RouteId::new();
        assert!(rates.count_at(c, whole, ip("192.0.2.1"), Duration::ZERO).is_ok());
        assert!(rates.count_at(c, whole, ip("192.0.2.2"), Duration::ZERO).is_err());
    }

    #[test]
    fn attack_a_flood_of_addresses_does_not_grow_without_bound() {
        let (rates, route) = (Rates::default(), RouteId::new());
        let count = |n: u32, at| {
            let client = IpAddr::from(std::net::Ipv4Addr::from(n));
            rates.count_at(route, LIMIT, client, Duration::from_secs(at))
        };
        for n in 0..u32::try_from(COUNTED_MAX).unwrap() {
            assert!(count(n, 10).is_ok());
        }
        let refused = (0..10).filter(|n| count(0x0a00_0000 + n, 10).is_err()).count();
        assert_eq!(refused, 7, "newcomers share one number");
        assert!(rates.counts.lock().unwrap().paid_at.len() <= COUNTED_MAX + 1);
        // Those who pay off their requests make room.
        assert!(count(0x0b00_0000, 20).is_ok());
        assert!(rates.counts.lock().unwrap().paid_at.len() < 10);
    }
}
