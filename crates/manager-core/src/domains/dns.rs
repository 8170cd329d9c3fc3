//! Asks the DNS for text records. Nothing is kept from one question to the next: they are few, and
//! who has just made a record wants it to be seen.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::Resolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;

/// For one server to answer; after it the next is asked.
const TIMEOUT: Duration = Duration::from_secs(3);
/// For all of it: a person waits.
const PATIENCE: Duration = Duration::from_secs(12);
/// Longest text of a record that is looked at; ours has 53 characters.
const TEXT_BYTES_MAX: usize = 512;

/// The servers to ask; the machine's own where none are named.
#[derive(Debug, Clone)]
pub(crate) struct Dns {
    servers: Vec<SocketAddr>,
}

/// No answer could be had, which says nothing about the records.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DnsError {
    #[error("no DNS server answered within {} s", PATIENCE.as_secs())]
    Timeout,
    #[error(transparent)]
    Net(#[from] NetError),
}

impl Dns {
    pub(crate) const fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers }
    }

    /// The texts at a name; none when there is no such name.
    pub(crate) async fn texts(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let resolver = self.resolver(TIMEOUT, 0)?;
        // The final dot keeps the machine's search domains out of it.
        let asked = tokio::time::timeout(PATIENCE, resolver.txt_lookup(format!("{name}.")));
        let answer = match asked.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.is_no_records_found() => return Ok(Vec::new()),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(DnsError::Timeout),
        };
        let texts = answer.answers().iter().filter_map(|record| match &record.data {
            RData::TXT(text) => Some(text.txt_data.concat()),
            _ => None,
        });
        let texts = texts.filter(|text| text.len() <= TEXT_BYTES_MAX);
        Ok(texts.map(|text| String::from_utf8_lossy(&text).into_owned()).collect())
    }

    /// Asks these servers, each for so long, and keeps so many answers.
    pub(crate) fn resolver(
        &self,
        timeout: Duration,
        cache_size: u64,
    ) -> Result<Resolver<TokioRuntimeProvider>, NetError> {
        let mut builder = if self.servers.is_empty() {
            Resolver::builder_tokio()?
        } else {
            let servers = self.servers.iter().map(|server| name_server(*server)).collect();
            let config = ResolverConfig::from_name_servers(servers);
            Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.timeout = timeout;
        options.attempts = 2;
        options.cache_size = cache_size;
        builder.build()
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let at = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
    NameServerConfig::new(address.ip(), true, connections)
}
