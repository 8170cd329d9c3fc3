//! Connections, which are kept for the next request to the same host at the same addresses.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::dns::{Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;

use super::{Refused, Target};

/// For a connection to be there, with TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Hosts to which connections are kept; the one unused longest goes first.
const HOSTS_MAX: usize = 64;
/// Connections kept to one host.
const IDLE_MAX: usize = 2;
/// Headers of an answer, as many as ingress takes.
const HEADERS_MAX: usize = 100;

#[derive(Debug, Default)]
pub(super) struct Clients {
    kept: Mutex<HashMap<Key, Kept>>,
    /// Certificates of the machine are read once.
    tls: Mutex<Option<ClientConfig>>,
}

/// The addresses are a part of it: a connection that is kept goes to what was checked just now.
type Key = (String, Vec<SocketAddr>);

#[derive(Debug)]
struct Kept {
    client: reqwest::Client,
    used: Instant,
}

impl Clients {
    pub(super) fn to(
        &self,
        target: &Target,
        mut addresses: Vec<SocketAddr>,
    ) -> Result<reqwest::Client, Refused> {
        addresses.sort();
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (target.host.clone(), addresses);
        if let Some(known) = kept.get_mut(&key) {
            known.used = now;
            return Ok(known.client.clone());
        }
        let client = self.build(target, &key.1).map_err(|error| {
            tracing::error!(error = format!("{error:#}"), "no client for outbound requests can be made");
            Refused::Exchange("the server cannot speak TLS")
        })?;
        if kept.len() >= HOSTS_MAX {
            let oldest = kept.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
            oldest.map(|key| kept.remove(&key));
        }
        kept.insert(key, Kept { client: client.clone(), used: now });
        Ok(client)
    }

    fn build(&self, target: &Target, addresses: &[SocketAddr]) -> Result<reqwest::Client, BuildError> {
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls()?)
            .dns_resolver(Arc::new(NoLookup))
            .redirect(Policy::none())
            // What is measured and capped is of this version.
            .http1_only()
            .no_proxy()
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .http1_max_headers(HEADERS_MAX)
            .pool_max_idle_per_host(IDLE_MAX)
            // No timer: an idle server sleeps. What the other side closes is noticed when it is used.
            .pool_idle_timeout(None);
        let builder = match target.literal {
            Some(_) => builder,
            None => builder.resolve_to_addrs(&target.host, addresses),
        };
        Ok(builder.build()?)
    }

    fn tls(&self) -> Result<ClientConfig, BuildError> {
        let mut kept = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = &*kept {
            return Ok(config.clone());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_platform_verifier()?
            .with_no_client_auth();
        Ok(kept.insert(config).clone())
    }
}

#[derive(Debug, thiserror::Error)]
enum BuildError {
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Client(#[from] reqwest::Error),
}

/// Names are looked up before, where their addresses are checked. Whatever asks here has not been.
#[derive(Debug)]
struct NoLookup;

impl Resolve for NoLookup {
    fn resolve(&self, _: Name) -> Resolving {
        Box::pin(async { Err("names are resolved before".into()) })
    }
}
