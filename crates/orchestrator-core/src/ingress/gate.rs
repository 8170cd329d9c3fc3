//! How many connections may be open: in all, and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// A full house; small enough that descriptors and memory last.
const CONNECTIONS_MAX: usize = 10_000;
/// One client needs a few; a proxy that is trusted is not counted.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 256;

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Gate {
    counts: Arc<Mutex<Counts>>,
}

/// A connection that was let in; counts until it is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    counts: Arc<Mutex<Counts>>,
    address: Option<IpAddr>,
}

impl Gate {
    /// Lets a connection in, or not. `address` is `None` for a trusted proxy.
    pub(super) fn admit(&self, address: Option<IpAddr>) -> Option<Admitted> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total >= CONNECTIONS_MAX {
            return None;
        }
        if let Some(address) = address {
            let count = counts.by_address.entry(address).or_default();
            if *count >= CONNECTIONS_PER_ADDRESS_MAX {
                return None;
            }
            *count += 1;
        }
        counts.total += 1;
        drop(counts);
        Some(Admitted { counts: self.counts.clone(), address })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        if let Some(address) = self.address
            && let Some(count) = counts.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_connections() {
        let gate = Gate::default();
        let greedy: IpAddr = [10, 0, 0, 1].into();
        let held: Vec<_> =
            (0..CONNECTIONS_PER_ADDRESS_MAX).map(|_| gate.admit(Some(greedy)).unwrap()).collect();
        assert!(gate.admit(Some(greedy)).is_none());
        assert!(gate.admit(Some([10, 0, 0, 2].into())).is_some());
        drop(held);
        assert!(gate.admit(Some(greedy)).is_some());
        assert!(gate.counts.lock().unwrap().by_address.is_empty());
    }
}
