//! From a name to addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use tokio::sync::OnceCell;

use super::Refused;
use crate::domains::Dns;

/// For a lookup as a whole.
const TIMEOUT: Duration = Duration::from_secs(2);
/// For one server, so that another can still be asked.
const SERVER_TIMEOUT: Duration = Duration::from_secs(1);
/// Answers that are kept for as long as they say.
const CACHE_SIZE: u64 = 1_024;
/// Addresses of a name that are looked at: who has more is playing.
pub(super) const ADDRESSES_MAX: usize = 32;

/// Looks names up.
#[derive(Debug)]
pub(super) struct Names {
    dns: Dns,
    resolver: OnceCell<TokioResolver>,
}

impl Names {
    pub(super) fn new(dns_servers: Vec<SocketAddr>) -> Self {
        Self { dns: Dns::new(dns_servers), resolver: OnceCell::new() }
    }

    /// The addresses of a name, at least one.
    pub(super) async fn addresses(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, Refused> {
        if let Some(here) = local(name, port) {
            return Ok(here);
        }
        let resolver = self.resolver.get_or_try_init(async || self.dns.resolver(SERVER_TIMEOUT, CACHE_SIZE));
        let resolver = resolver.await.map_err(|error| {
            tracing::error!(%error, "names cannot be resolved");
            Refused::Name
        })?;
        // The final dot keeps the machine's search domains out of it.
        let asked = tokio::time::timeout(TIMEOUT, resolver.lookup_ip(format!("{name}."))).await;
        let found = match asked {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::debug!(%error, name, "a name was not resolved");
                return Err(Refused::Name);
            }
            Err(_) => return Err(Refused::Name),
        };
        let addresses: Vec<_> =
            found.iter().map(|ip| SocketAddr::new(ip, port)).take(ADDRESSES_MAX + 1).collect();
        match addresses.len() {
            0 => Err(Refused::Name),
            1..=ADDRESSES_MAX => Ok(addresses),
            _ => Err(Refused::Addresses),
        }
    }
}

/// The addresses of a name that nobody has to be asked for. RFC 6761: these are the machine itself, whatever the DNS
/// says.
pub(super) fn local(name: &str, port: u16) -> Option<Vec<SocketAddr>> {
    let here: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let is_local = name == "localhost" || name.ends_with(".localhost");
    is_local.then(|| here.map(|ip| SocketAddr::new(ip, port)).to_vec())
}
