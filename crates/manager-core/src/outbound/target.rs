//! Where a request goes, as its address says it: read by the rules of browsers, then held against what
//! is allowed. The addresses behind the name are looked at later.

use std::net::IpAddr;

use reqwest::Url;
use shared::host::HostPattern;
use url::Host;

use super::Refused;

/// Ports of the web; others are databases, mail and shells.
const PORTS: [u16; 4] = [80, 443, 8080, 8443];
/// Longest address, as in ingress.
const URL_BYTES_MAX: usize = 8 << 10;

/// What an app may reach, besides what nobody may.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    /// Hosts that may be reached; all when there is no such list.
    pub(crate) allow: Option<Vec<HostPattern>>,
    /// Hosts that may not.
    pub(crate) deny: Vec<HostPattern>,
    /// Further ports.
    pub(crate) ports: Vec<u16>,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) url: Url,
    pub(crate) host: String,
    /// The host, when it is given by address.
    pub(crate) literal: Option<IpAddr>,
    pub(crate) port: u16,
}

impl Target {
    pub(crate) fn parse(text: &str, rules: &Rules) -> Result<Self, Refused> {
        if text.len() > URL_BYTES_MAX {
            return Err(Refused::Url("it is too long"));
        }
        // Browsers drop or bend these, and what checks an address should not have to guess how.
        if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(Refused::Url("it has spaces, control characters or backslashes"));
        }
        let url = Url::parse(text).map_err(|_| Refused::Url("it cannot be read"))?;
        Self::new(url, rules)
    }

    /// Where a redirect leads.
    pub(crate) fn follow(&self, location: &str, rules: &Rules) -> Result<Self, Refused> {
        let url = self.url.join(location).map_err(|_| Refused::Url("it cannot be read"))?;
        Self::parse(url.as_str(), rules)
    }

    fn new(mut url: Url, rules: &Rules) -> Result<Self, Refused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refused::Url("only http and https are spoken"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Url("a user name belongs into a header"));
        }
        url.set_fragment(None);
        let (host, literal) = match url.host() {
            Some(Host::Domain(name)) => (name.trim_end_matches('.').to_owned(), None),
            Some(Host::Ipv4(ip)) => (ip.to_string(), Some(ip.into())),
            Some(Host::Ipv6(ip)) => (ip.to_string(), Some(ip.into())),
            None => return Err(Refused::Url("it has no host")),
        };
        if host.is_empty() {
            return Err(Refused::Url("it has no host"));
        }
        let port = url.port_or_known_default().unwrap_or_default();
        if !PORTS.contains(&port) && !rules.ports.contains(&port) {
            return Err(Refused::Port(port));
        }
        let among = |patterns: &[HostPattern]| patterns.iter().any(|pattern| pattern.matches(&host));
        if among(&rules.deny) || rules.allow.as_ref().is_some_and(|allow| !among(allow)) {
            return Err(Refused::Host(host));
        }
        Ok(Self { url, host, literal, port })
    }

    /// Whether what is secret to one may be told to the other.
    pub(crate) fn is_same_origin(&self, other: &Self) -> bool {
        self.url.scheme() == other.url.scheme() && self.host == other.host && self.port == other.port
    }

    /// As the list of destinations shows it.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            return format!("[{}]:{}", self.host, self.port);
        }
        format!("{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Target, Refused> {
        Target::parse(text, &Rules::default())
    }

    #[test]
    fn attack_numbers_and_fancy_digits_are_read_as_the_addresses_they_are() {
        for text in [
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://①②⑦.⓪.⓪.①/",
            "http://127.0.0.1./",
        ] {
            assert_eq!(parse(text).unwrap().literal, Some("127.0.0.1".parse().unwrap()), "{text}");
        }
        assert_eq!(
            parse("http://[::ffff:7f00:1]/").unwrap().literal,
            Some("::ffff:127.0.0.1".parse().unwrap())
        );
    }

    #[test]
    fn attack_other_schemes_ports_users_and_tricks_are_refused() {
        for text in [
            "file:///etc/passwd",
            "gopher://example.com/",
            "data:text/plain,x",
            "ftp://example.com/",
            "http://example.com:22/",
            "http://example.com:6379/",
            "http://example.com:25/",
            "http://good@127.0.0.1/",
            "http://good:word@example.com/",
            "http:\\\\example.com\\",
            "http://example.com\\@127.0.0.1/",
            "http://exam\tple.com/",
            "http://example.com/\r\nHost: other",
            " http://example.com/",
            "http://",
            "//example.com/",
            "example.com",
            "",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn lists_and_ports_of_the_app_are_kept() {
        let rules = Rules {
            allow: Some(vec!["*.example.com".parse().unwrap()]),
            deny: vec!["bad.example.com".parse().unwrap()],
            ports: vec![5000],
        };
        let parse = |text: &str| Target::parse(text, &rules);
        assert!(parse("https://api.example.com:5000/").is_ok());
        assert!(matches!(parse("https://bad.example.com/"), Err(Refused::Host(_))));
        assert!(matches!(parse("https://example.org/"), Err(Refused::Host(_))));
        assert!(matches!(parse("https://93.184.216.34/"), Err(Refused::Host(_))));
    }

    #[test]
    fn attack_a_redirect_is_held_to_the_same_rules() {
        let from = parse("https://example.com/a").unwrap();
        assert_eq!(from.follow("/b", &Rules::default()).unwrap().url.as_str(), "https://example.com/b");
        for location in ["file:///etc/passwd", "http://example.com:6379/", "//user@example.com/", "data:,x"] {
            assert!(from.follow(location, &Rules::default()).is_err(), "{location}");
        }
        // What a browser bends into an address is looked at as that address.
        for location in
            ["\\\\10.0.0.1\\", "http:\\\\10.0.0.1\\", "http://10.0.\t0.1/", "/\\10.0.0.1/", "//0xa.1/"]
        {
            let literal = from.follow(location, &Rules::default()).map(|target| target.literal);
            assert!(matches!(literal, Err(_) | Ok(Some(_))), "{location}: {literal:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text: String) {
            let _ = parse(&text);
            let _ = parse(&format!("http://{text}"));
        }
    }
}
