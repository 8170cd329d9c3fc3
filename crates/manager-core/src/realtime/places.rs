//! How many listen: on this node, to an app, from an address or its network.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use shared::http::customer;
use shared::id::AppId;
use shared::limits::{REALTIME_ADDRESS_LISTENERS_MAX, REALTIME_APP_LISTENERS_MAX, REALTIME_LISTENERS_MAX};

/// Those who listen. What nobody listens to is not in it.
#[derive(Debug, Default)]
pub(super) struct Places {
    all: usize,
    of_apps: HashMap<AppId, usize>,
    of_clients: HashMap<IpAddr, usize>,
}

impl Places {
    /// Whether there was one, which is taken now.
    pub(super) fn take(&mut self, app: AppId, address: Option<IpAddr>) -> bool {
        let of_app = self.of_apps.get(&app).copied().unwrap_or_default();
        let client = address.map(customer);
        let of_client = client.and_then(|client| self.of_clients.get(&client).copied());
        if self.all >= REALTIME_LISTENERS_MAX
            || of_app >= REALTIME_APP_LISTENERS_MAX
            || of_client.unwrap_or_default() >= REALTIME_ADDRESS_LISTENERS_MAX
        {
            return false;
        }
        self.all += 1;
        *self.of_apps.entry(app).or_default() += 1;
        if let Some(client) = client {
            *self.of_clients.entry(client).or_default() += 1;
        }
        true
    }

    /// One that was taken.
    pub(super) fn give_back(&mut self, app: AppId, address: Option<IpAddr>) {
        self.all -= 1;
        take_one(&mut self.of_apps, app);
        if let Some(address) = address {
            take_one(&mut self.of_clients, customer(address));
        }
    }
}

fn take_one<K: Eq + Hash>(counts: &mut HashMap<K, usize>, of: K) {
    if let Some(count) = counts.get_mut(&of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&of);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    /// Takes as many as there are, from ever other addresses.
    fn fill(places: &mut Places, app: AppId) -> usize {
        (0_u32..).take_while(|n| places.take(app, Some(Ipv4Addr::from_bits(*n).into()))).count()
    }

    #[test]
    fn attack_an_app_with_listeners_without_end_leaves_room_for_others() {
        let (mut places, greedy, modest) = (Places::default(), AppId::new(), AppId::new());
        assert_eq!(fill(&mut places, greedy), REALTIME_APP_LISTENERS_MAX);
        assert!(places.take(modest, None));
        places.give_back(greedy, Some(Ipv4Addr::from_bits(7).into()));
        assert!(places.take(greedy, None) && !places.take(greedy, None), "who leaves makes room");
    }

    #[test]
    fn attack_many_apps_with_listeners_without_end_fill_no_more_than_the_node_has() {
        let mut places = Places::default();
        let all: usize = (0..6).map(|_| fill(&mut places, AppId::new())).sum();
        assert_eq!(all, REALTIME_LISTENERS_MAX);
    }

    #[test]
    fn attack_one_address_does_not_fill_an_app() {
        let (mut places, address) = (Places::default(), Some(Ipv4Addr::LOCALHOST.into()));
        let apps = [AppId::new(), AppId::new()];
        let taken = apps.iter().cycle().take_while(|app| places.take(**app, address)).count();
        assert_eq!(taken, REALTIME_ADDRESS_LISTENERS_MAX);
        assert!(places.take(apps[0], Some(Ipv4Addr::BROADCAST.into())));
    }

    #[test]
    fn attack_all_addresses_of_one_network_do_not_fill_an_app() {
        let (mut places, app) = (Places::default(), AppId::new());
        let of = |network: u16, host: u16| {
            Some(IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host)))
        };
        let taken = (0..=u16::MAX).take_while(|host| places.take(app, of(1, *host))).count();
        assert_eq!(taken, REALTIME_ADDRESS_LISTENERS_MAX);
        assert!(places.take(app, of(2, 1)));
        places.give_back(app, of(1, 0));
        assert!(places.take(app, of(1, 9)), "who leaves makes room for the neighbour");
    }

    #[test]
    fn nothing_is_kept_of_those_who_are_gone() {
        let (mut places, app, address) = (Places::default(), AppId::new(), Some(Ipv4Addr::LOCALHOST.into()));
        assert!(places.take(app, address) && places.take(app, None));
        places.give_back(app, address);
        places.give_back(app, None);
        assert!(places.all == 0 && places.of_apps.is_empty() && places.of_clients.is_empty());
    }
}
