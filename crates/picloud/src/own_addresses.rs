//! The machine's own addresses and listeners, which scripts must not reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use manager_core::{Addresses, MailServer};
use nix::ifaddrs::getifaddrs;
use sqlx::postgres::PgConnectOptions;
use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::config::Config;

/// For the lookup of one listener: a resolver that is silent does not keep the server from starting.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// What holds for scripts on this machine, as it is now.
pub async fn addresses(config: &Config, listener: SocketAddr, database: &PgConnectOptions) -> Addresses {
    let mut listeners = vec![listener];
    let mut named_listeners = Vec::new();
    for (host, port) in services(database, config.mail_server.as_ref()) {
        listeners.extend(known(host, port).await);
        // What is behind a name may be another address tomorrow.
        named_listeners.push((host.to_owned(), port));
    }
    Addresses {
        allow_private: config.http_allow_private.clone(),
        deny: config.http_deny.clone(),
        own: interfaces(),
        listeners,
        named_listeners,
    }
}

/// Host and port of the database and the mail server, where they are reached through the network.
fn services<'a>(
    database: &'a PgConnectOptions,
    mail_server: Option<&'a MailServer>,
) -> impl Iterator<Item = (&'a str, u16)> {
    // A path is a socket too, where it stands for the host.
    let is_on_network = database.get_socket().is_none() && !database.get_host().starts_with('/');
    let database = is_on_network.then(|| (database.get_host(), database.get_port()));
    // It believes who is on its network, and has no business with scripts but by way of us.
    let mail_server = mail_server.map(|server| (server.host(), server.port()));
    database.into_iter().chain(mail_server)
}

/// Where a host is now, as far as that can be found out.
async fn known(host: &str, port: u16) -> Vec<SocketAddr> {
    // IPv6 is in brackets in the address of a database.
    let host = host.trim_matches(['[', ']']);
    if host.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
        // Both, whichever of them the machine's own list of names knows.
        let here: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return here.map(|ip| SocketAddr::new(ip, port)).to_vec();
    }
    match timeout(LOOKUP_TIMEOUT, lookup_host((host, port))).await.unwrap_or_else(|late| Err(late.into())) {
        Ok(found) => found.collect(),
        Err(error) => {
            tracing::warn!(%error, host, "a service's name is not resolved: scripts are kept from it by name alone");
            Vec::new()
        }
    }
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

#[cfg(test)]
mod tests {
    use manager_core::MailSettings;

    use super::*;

    #[test]
    fn the_loopback_is_among_the_machines_own_addresses() {
        assert!(interfaces().contains(&Ipv4Addr::LOCALHOST.into()));
    }

    #[tokio::test]
    async fn a_host_is_known_by_what_it_resolves_to() {
        let loopback: SocketAddr = "127.0.0.1:5432".parse().unwrap();
        // The last is no address to us; the machine's resolver, which the database's client asks, makes it one.
        for host in ["127.0.0.1", "localhost", "LocalHost.", "127.1"] {
            assert!(known(host, 5432).await.contains(&loopback), "{host}");
        }
        for host in ["::1", "[::1]", "localhost"] {
            assert!(known(host, 5432).await.contains(&"[::1]:5432".parse().unwrap()), "{host}");
        }
    }

    #[tokio::test]
    async fn a_host_that_cannot_be_resolved_is_no_error() {
        // A label this long is in no DNS, so nobody is asked.
        assert!(known(&"a".repeat(64), 5432).await.is_empty());
    }

    #[test]
    fn the_database_and_the_mail_server_are_services_unless_they_are_behind_a_socket() {
        let host = Some("smtp.example.org".to_owned());
        let from = Some("noreply@example.org".to_owned());
        let mail_server = MailServer::of(MailSettings { host, from, ..MailSettings::default() }).unwrap();
        let by_name: PgConnectOptions = "postgres://pi@db:5433/pi".parse().unwrap();
        let found: Vec<_> = services(&by_name, mail_server.as_ref()).collect();
        assert_eq!(found, [("db", 5433), ("smtp.example.org", 587)]);
        let by_path = PgConnectOptions::new_without_pgpass().host("/run/postgresql");
        for by_socket in [by_name.socket("/run/postgresql"), by_path] {
            assert_eq!(services(&by_socket, None).count(), 0);
        }
    }
}
