//! The address of a server, checked once, and where its apps answer.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ureq::http::Uri;

/// Where `picloud serve` listens when nobody says otherwise.
pub(crate) const DEFAULT: &str = "http://127.0.0.1:8080";

/// `http://` or `https://`, host, optional port and path; no trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    text: String,
    host: String,
}

/// Why an address was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidUrl {
    #[error("an address begins with http:// or https://, as in {DEFAULT}")]
    Scheme,
    #[error("this is not an address of the form {DEFAULT}")]
    Malformed,
    #[error("an address holds no user name or password; use `pic login`")]
    UserInfo,
}

/// How to reach an app's routes: a base address, and a `Host` header where names do not resolve.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AppAddress {
    pub(crate) base: String,
    pub(crate) host_header: Option<String>,
}

impl ServerUrl {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn is_loopback(&self) -> bool {
        let is_local_name = self.host == "localhost" || self.host.ends_with(".localhost");
        is_local_name || self.address().is_some_and(|address| address.is_loopback())
    }

    /// True when a password sent there can be read on the way.
    pub(crate) fn is_readable_by_others(&self) -> bool {
        self.text.starts_with("http://") && !self.is_loopback()
    }

    /// Apps answer on `{slug}.{base domain}`; the app `default` also on `localhost` and on addresses.
    pub(crate) fn app(&self, slug: &str) -> AppAddress {
        let is_default = slug == "default";
        let by_name =
            |host: &str| AppAddress { base: self.with_host(&format!("{slug}.{host}")), host_header: None };
        if self.is_loopback() {
            return if is_default { self.itself() } else { by_name("localhost") };
        }
        match (self.address(), is_default) {
            (Some(_), true) => self.itself(),
            (Some(_), false) => {
                AppAddress { base: self.text.clone(), host_header: Some(format!("{slug}.localhost")) }
            }
            (None, _) => by_name(&self.host),
        }
    }

    fn itself(&self) -> AppAddress {
        AppAddress { base: self.text.clone(), host_header: None }
    }

    fn address(&self) -> Option<IpAddr> {
        self.host.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    fn with_host(&self, host: &str) -> String {
        let scheme_end = self.text.find("://").map_or(0, |at| at + 3);
        let (scheme, rest) = self.text.split_at(scheme_end);
        format!("{scheme}{}", rest.replacen(&self.host, host, 1))
    }
}

impl FromStr for ServerUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let text = text.trim().trim_end_matches('/');
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Err(InvalidUrl::Scheme);
        }
        let uri: Uri = text.parse().map_err(|_| InvalidUrl::Malformed)?;
        let authority = uri.authority().ok_or(InvalidUrl::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(InvalidUrl::UserInfo);
        }
        if authority.host().is_empty() || uri.query().is_some() || text.contains('#') {
            return Err(InvalidUrl::Malformed);
        }
        Ok(Self { text: text.to_owned(), host: authority.host().to_owned() })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> ServerUrl {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_without_scheme_or_with_a_password_is_refused() {
        assert_eq!("localhost:8080".parse::<ServerUrl>(), Err(InvalidUrl::Scheme));
        assert_eq!("http://u:p@host".parse::<ServerUrl>(), Err(InvalidUrl::UserInfo));
        assert_eq!("http://".parse::<ServerUrl>(), Err(InvalidUrl::Scheme));
        assert_eq!("http://a b".parse::<ServerUrl>(), Err(InvalidUrl::Malformed));
        assert_eq!("http://a/?x=1".parse::<ServerUrl>(), Err(InvalidUrl::Malformed));
    }

    #[test]
    fn a_trailing_slash_is_dropped() {
        assert_eq!(url("http://host:1/").as_str(), "http://host:1");
    }

    #[test]
    fn apps_answer_on_their_own_host() {
        let cases = [
            ("http://127.0.0.1:8080", "default", "http://127.0.0.1:8080", None),
            ("http://127.0.0.1:8080", "blog", "http://blog.localhost:8080", None),
            ("http://[::1]:8080", "blog", "http://blog.localhost:8080", None),
            ("http://192.168.1.5:80", "default", "http://192.168.1.5:80", None),
            ("http://192.168.1.5:80", "blog", "http://192.168.1.5:80", Some("blog.localhost")),
            ("https://pi.example.org", "default", "https://default.pi.example.org", None),
            ("http://h:1", "blog", "http://blog.h:1", None),
            ("https://pi.example.org", "blog", "https://blog.pi.example.org", None),
        ];
        for (server, slug, base, host_header) in cases {
            let expected = AppAddress { base: base.into(), host_header: host_header.map(Into::into) };
            assert_eq!(url(server).app(slug), expected, "{server} {slug}");
        }
    }

    #[test]
    fn only_plain_http_to_another_machine_is_readable_by_others() {
        assert!(url("http://pi.example.org").is_readable_by_others());
        assert!(!url("https://pi.example.org").is_readable_by_others());
        assert!(!url("http://localhost:1").is_readable_by_others());
        assert!(!url("http://[::1]:1").is_readable_by_others());
    }
}
