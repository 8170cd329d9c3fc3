//! Hosts that apps claim: which may be claimed at all, and how it is proven that they are the
//! claimant's. Only DNS proves that. A file that the host serves would not: a host that already
//! points here is answered by this very server, for whoever asks it to.

mod dns;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use shared::host::{self, HostPattern};

pub(crate) use self::dns::{Dns, DnsError};
use crate::manager::ManagerConfig;

/// In front of the name whose ownership is proven: a record there says nothing to anybody else.
const RECORD_LABEL: &str = "_picloud";
const RECORD_PREFIX: &str = "picloud-verification=";
/// 192 bits, 32 characters: nobody guesses what the record will be asked to say.
const TOKEN_BYTES: usize = 24;

/// Most claims of an app, proven or not.
pub(crate) const DOMAINS_MAX: i64 = 100;

/// The random numbers of the operating system cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no random numbers")]
pub(crate) struct NoEntropy;

/// The record that proves a claim.
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl Record {
    pub(crate) fn of(pattern: &HostPattern, token: &str) -> Self {
        Self { name: format!("{RECORD_LABEL}.{}", pattern.base()), value: format!("{RECORD_PREFIX}{token}") }
    }
}

/// What a new claim's record must say.
pub(crate) fn generate_token() -> Result<String, NoEntropy> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|_| NoEntropy)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Why a name cannot be claimed by any app, if so.
pub(crate) fn refusal(pattern: &HostPattern, config: &ManagerConfig) -> Option<String> {
    let own = [config.base_domain.to_ascii_lowercase(), host::of_url(&config.public_url).into_owned()];
    for name in own.iter().filter(|name| !name.is_empty()) {
        let is_below =
            |suffix: &str| pattern.base().strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
        if pattern.base() == name || is_below(name) {
            return Some(format!("{name} and everything below it belongs to this server itself"));
        }
        if pattern.matches(name) {
            return Some(format!("{pattern} has {name} in it, which belongs to this server itself"));
        }
    }
    let special = SPECIAL.iter().find(|name| pattern.base().ends_with(&format!(".{name}")));
    special.map(|name| format!("names that end in .{name} are nobody's (RFC 6761)"))
}

/// Top-level names that by definition nobody has.
const SPECIAL: [&str; 3] = ["localhost", "invalid", "onion"];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::data::files::blobs::FileStorage;
    use crate::data::files::orphans::OrphanSweep;
    use crate::events::EventRetention;
    use crate::recorder::Retention;
    use crate::vault::{MasterKey, MasterKeys};

    fn config() -> ManagerConfig {
        let day = Duration::from_secs(86_400);
        let events =
            EventRetention { dead_letters_per_app: 1, dead_letter_bytes_per_app: 1, abandoned_per_app: 1 };
        ManagerConfig {
            base_domain: "Apps.example.org".into(),
            public_url: "https://pi.example.org:8443/".into(),
            retention: Retention { age: day, records_per_app: 1, events, every: day },
            secret_keys: MasterKeys { current: MasterKey::generate().unwrap(), staged: None, keeper: None },
            addresses: crate::outbound::Addresses::default(),
            mail_server: None,
            dns_servers: Vec::new(),
            api_requests_per_minute: 600,
            oidc: Vec::new(),
            files: FileStorage::Memory,
            orphans: OrphanSweep::default(),
        }
    }

    #[test]
    fn attack_the_servers_own_names_cannot_be_claimed() {
        let refused = |text: &str| refusal(&text.parse().unwrap(), &config()).is_some();
        for text in [
            "apps.example.org",
            "blog.apps.example.org",
            "*.apps.example.org",
            "{t}.apps.example.org",
            "*.example.org",
            "{t}.example.org",
            "pi.example.org",
            "a.pi.example.org",
            "a.localhost",
            "a.onion",
        ] {
            assert!(refused(text), "{text}");
        }
        for text in ["example.org", "shop.example.org", "*.shop.example.org", "xapps.example.org"] {
            assert!(!refused(text), "{text}");
        }
    }

    #[test]
    fn each_claim_has_a_record_of_its_own() {
        let [a, b] = [generate_token().unwrap(), generate_token().unwrap()];
        assert_ne!(a, b);
        let record = Record::of(&"*.example.com".parse().unwrap(), &a);
        assert_eq!(record.name, "_picloud.example.com");
        assert_eq!(record.value, format!("picloud-verification={a}"));
    }
}
