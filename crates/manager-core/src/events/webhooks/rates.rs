//! How often strangers may try, and how often those who are believed may send.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::id::TriggerId;

use crate::buckets::{Buckets, Rate, Throttled, network};

const PERIOD: Duration = Duration::from_secs(60);
/// Requests from one address that may be in doubt, or were not believed, in a minute: each costs a look
/// at the database. Those that are believed are given back.
const DOUBTED: Rate = Rate { capacity: 60.0, period: PERIOD };

/// Counts by trigger.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    doubted: Buckets<(TriggerId, Option<IpAddr>)>,
    taken: Buckets<TriggerId>,
}

/// A request that is counted as one of a stranger until somebody believes it.
#[derive(Debug)]
pub(crate) struct Doubt<'a> {
    rates: &'a Rates,
    key: (TriggerId, Option<IpAddr>),
}

impl Rates {
    pub(crate) fn doubt(&self, trigger: TriggerId, address: Option<IpAddr>) -> Result<Doubt<'_>, Throttled> {
        let key = (trigger, address.map(network));
        self.counts().doubted.take(key, DOUBTED, Instant::now())?;
        Ok(Doubt { rates: self, key })
    }

    /// Counts a request that is believed.
    pub(super) fn take(&self, trigger: TriggerId, per_minute: u32) -> Result<(), Throttled> {
        let rate = Rate { capacity: per_minute.into(), period: PERIOD };
        self.counts().taken.take(trigger, rate, Instant::now())
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doubt<'_> {
    /// It is believed, or nobody could say.
    pub(crate) fn give_back(self) {
        self.rates.counts().doubted.give_back(&self.key, DOUBTED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_counted_by_address_and_those_who_are_believed_are_given_back() {
        let (rates, trigger) = (Rates::default(), TriggerId::new());
        let doubt = |address: &str| rates.doubt(trigger, Some(address.parse().unwrap()));
        for _ in 0..200 {
            doubt("192.0.2.1").unwrap().give_back();
        }
        for _ in 0..60 {
            doubt("192.0.2.1").unwrap();
        }
        assert!(doubt("192.0.2.1").is_err() && doubt("192.0.2.2").is_ok());
        assert!(rates.doubt(TriggerId::new(), Some("192.0.2.1".parse().unwrap())).is_ok());
    }

    #[test]
    fn each_trigger_takes_as_many_as_it_says() {
        let (rates, [one, other]) = (Rates::default(), [TriggerId::new(), TriggerId::new()]);
        assert!(rates.take(one, 2).is_ok() && rates.take(one, 2).is_ok());
        let Throttled { retry_after_s } = rates.take(one, 2).unwrap_err();
        assert!((1..=30).contains(&retry_after_s), "{retry_after_s}");
        assert!(rates.take(other, 2).is_ok());
    }
}
