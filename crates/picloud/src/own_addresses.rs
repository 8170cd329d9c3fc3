//! The machine's own addresses and listeners, which scripts must not reach.

use std::net::{IpAddr, SocketAddr};

use manager_core::Addresses;
use nix::ifaddrs::getifaddrs;
use sqlx::postgres::PgConnectOptions;

use crate::config::Config;

/// What holds for scripts on this machine, as it is now.
pub fn addresses(config: &Config, listener: SocketAddr, database: &PgConnectOptions) -> Addresses {
    let mut listeners = vec![listener];
    // A name is looked up by whoever connects to it; as an address it is told at once.
    if database.get_socket().is_none() {
        listeners.extend(known(database.get_host(), database.get_port()));
    }
    // It believes who is on its network, and has no business with scripts but by way of us.
    if let Some(server) = &config.mail_server {
        listeners.extend(known(server.host(), server.port()));
    }
    Addresses {
        allow_private: config.http_allow_private.clone(),
        deny: config.http_deny.clone(),
        own: interfaces(),
        listeners,
    }
}

/// Where a host is that needs no looking up.
fn known(host: &str, port: u16) -> impl Iterator<Item = SocketAddr> {
    let ips: Vec<IpAddr> = match host {
        "localhost" => vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])],
        host => host.parse().into_iter().collect(),
    };
    ips.into_iter().map(move |ip| SocketAddr::new(ip, port))
}

fn interfaces() -> Vec<IpAddr> {
    let found = match getifaddrs() {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "the machine's own addresses cannot be listed");
            return Vec::new();
        }
    };
    let addresses = found.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
    });
    addresses.collect()
}
