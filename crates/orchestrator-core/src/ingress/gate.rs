//! How many connections may be open: in all, and from one client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use shared::http::customer;

/// A full house; small enough that descriptors and memory last.
const CONNECTIONS_MAX: usize = 10_000;
/// One client needs a few; a proxy that is trusted is not counted.
const CONNECTIONS_PER_CLIENT_MAX: usize = 256;

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_client: HashMap<IpAddr, usize>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Gate {
    counts: Arc<Mutex<Counts>>,
}

/// A connection that was let in; counts until it is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    counts: Arc<Mutex<Counts>>,
    client: Option<IpAddr>,
}

impl Gate {
    /// Lets a connection in, or not. `address` is `None` for a trusted proxy.
    pub(super) fn admit(&self, address: Option<IpAddr>) -> Option<Admitted> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total >= CONNECTIONS_MAX {
            return None;
        }
        let client = address.map(customer);
        if let Some(client) = client {
            let count = counts.by_client.entry(client).or_default();
            if *count >= CONNECTIONS_PER_CLIENT_MAX {
                return None;
            }
            *count += 1;
        }
        counts.total += 1;
        drop(counts);
        Some(Admitted { counts: self.counts.clone(), client })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        if let Some(client) = self.client
            && let Some(count) = counts.by_client.get_mut(&client)
        {
            *count -= 1;
            if *count == 0 {
                counts.by_client.remove(&client);
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
            (0..CONNECTIONS_PER_CLIENT_MAX).map(|_| gate.admit(Some(greedy)).unwrap()).collect();
        assert!(gate.admit(Some(greedy)).is_none());
        assert!(gate.admit(Some([10, 0, 0, 2].into())).is_some());
        drop(held);
        assert!(gate.admit(Some(greedy)).is_some());
        assert!(gate.counts.lock().unwrap().by_client.is_empty());
    }

    #[test]
    fn attack_all_addresses_of_one_network_are_one_client() {
        let gate = Gate::default();
        let of = |network: u16, host: u16| {
            Some(IpAddr::from(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host)))
        };
        let held: Vec<_> = (0..=u16::MAX).map_while(|host| gate.admit(of(1, host))).collect();
        assert_eq!(held.len(), CONNECTIONS_PER_CLIENT_MAX);
        assert!(gate.admit(of(2, 1)).is_some());
    }
}
