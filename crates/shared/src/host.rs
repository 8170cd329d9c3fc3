//! Host names, and patterns of them: which hosts an app has claimed, and which of them a route is for.

use std::borrow::Cow;
use std::cmp::{Ordering, Reverse};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Longest host name, RFC 1035 section 3.1.
const HOST_BYTES_MAX: usize = 253;
/// Longest label of one.
const LABEL_BYTES_MAX: usize = 63;
/// Longest name of a parameter.
const PARAM_BYTES_MAX: usize = 64;

/// The host of a request: without port and final dot, in lower case.
pub fn normalized(host: &str) -> Cow<'_, str> {
    let name = without_port(host);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(name.to_ascii_lowercase());
    }
    Cow::Borrowed(name)
}

/// The host in an address such as `https://pi.example.org:8443/x`, normalised.
pub fn of_url(url: &str) -> Cow<'_, str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    normalized(rest.split('/').next().unwrap_or_default())
}

fn without_port(host: &str) -> &str {
    if host.starts_with('[') {
        return host.find(']').map_or(host, |end| &host[..=end]);
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.strip_suffix('.').unwrap_or(name)
}

/// Whether a normalised host is an address instead of a name.
pub fn is_address(host: &str) -> bool {
    let may_be = host.starts_with('[') || host.ends_with(|c: char| c.is_ascii_digit());
    may_be && host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

/// Hosts: one `shop.example.com`, all below one `*.example.com`, or those one label below it, which
/// gives the label a name, `{tenant}.example.com`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPattern {
    kind: Kind,
    /// The whole name of an exact pattern; else what is behind the first dot.
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    Exact,
    Param(String),
    Wildcard,
}

/// Why a pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHost {
    #[error("a host name has 1 to {HOST_BYTES_MAX} characters and labels of 1 to {LABEL_BYTES_MAX}")]
    Length,
    #[error(
        "a host is a name such as shop.example.com, *.example.com or {{tenant}}.example.com, of letters, digits and '-'; write other letters in their ASCII form, xn--…"
    )]
    Malformed,
    #[error("a host name has at least two labels, as example.com, and behind '*' or a parameter too")]
    TooShort,
    #[error("a host is given by name, not by address")]
    Address,
    #[error("a parameter is '{{' a name of letters, digits and '_' '}}', as the whole first label")]
    BadParameter,
}

impl HostPattern {
    /// The name under which all hosts of the pattern are: where ownership of them is proven.
    pub fn base(&self) -> &str {
        &self.name
    }

    pub const fn is_exact(&self) -> bool {
        matches!(self.kind, Kind::Exact)
    }

    /// The name that the first label is given.
    pub fn param(&self) -> Option<&str> {
        match &self.kind {
            Kind::Param(name) => Some(name),
            Kind::Exact | Kind::Wildcard => None,
        }
    }

    /// Patterns of equal shape claim the same hosts: which name a parameter has makes no difference,
    /// and one label or all below a name would leave nobody knowing who answers.
    pub fn shape(&self) -> String {
        match self.kind {
            Kind::Exact => self.name.clone(),
            Kind::Param(_) | Kind::Wildcard => format!("*.{}", self.name),
        }
    }

    /// Whether a normalised host is one of the pattern's.
    pub fn matches(&self, host: &str) -> bool {
        match self.kind {
            Kind::Exact => host == self.name,
            Kind::Wildcard => self.label(host).is_some(),
            Kind::Param(_) => self.label(host).is_some_and(|label| !label.contains('.')),
        }
    }

    /// What stands in a host where the pattern has its star or parameter.
    pub fn label<'a>(&self, host: &'a str) -> Option<&'a str> {
        let label = host.strip_suffix(self.name.as_str())?.strip_suffix('.')?;
        (!self.is_exact() && !label.is_empty()).then_some(label)
    }

    /// Whether every host of `other` is one of this pattern's.
    pub fn covers(&self, other: &Self) -> bool {
        let is_below = || self.label(&other.name).is_some() || self.name == other.name;
        match (&self.kind, &other.kind) {
            (Kind::Exact, _) => self.kind == other.kind && self.name == other.name,
            (_, Kind::Exact) => self.matches(&other.name),
            (Kind::Wildcard, _) => is_below(),
            (Kind::Param(_), Kind::Param(_)) => self.name == other.name,
            (Kind::Param(_), Kind::Wildcard) => false,
        }
    }

    /// Which of two patterns that both match a host is asked first: `Less` goes first. A name goes
    /// before a parameter, that before a star, and the star with more behind it before the other.
    pub fn precedence(&self, other: &Self) -> Ordering {
        let key = |pattern: &Self| {
            let class: u8 = match pattern.kind {
                Kind::Exact => 0,
                Kind::Param(_) => 1,
                Kind::Wildcard => 2,
            };
            (class, Reverse(pattern.name.len()))
        };
        key(self).cmp(&key(other)).then_with(|| self.name.cmp(&other.name))
    }
}

impl FromStr for HostPattern {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let (kind, name) = match text.split_once('.') {
            Some(("*", rest)) => (Kind::Wildcard, rest),
            Some((first, rest)) if first.starts_with(['{', ':']) => (Kind::Param(param(first)?), rest),
            _ => (Kind::Exact, text),
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if name.is_empty() || name.len() > HOST_BYTES_MAX {
            return Err(InvalidHost::Length);
        }
        if is_address(&name) || name.contains(':') {
            return Err(InvalidHost::Address);
        }
        for label in name.split('.') {
            if !(1..=LABEL_BYTES_MAX).contains(&label.len()) {
                return Err(InvalidHost::Length);
            }
            let is_label = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-');
            if !is_label {
                return Err(InvalidHost::Malformed);
            }
        }
        // A last label of digits is how addresses are told from names.
        let last = name.rsplit('.').next().unwrap_or_default();
        if !name.contains('.') || last.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidHost::TooShort);
        }
        Ok(Self { kind, name })
    }
}

/// The name in `{tenant}`, or in `:tenant`, which paths have.
fn param(label: &str) -> Result<String, InvalidHost> {
    let braced = label.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let name = braced.or_else(|| label.strip_prefix(':')).ok_or(InvalidHost::BadParameter)?;
    let is_name = (1..=PARAM_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.as_bytes()[0].is_ascii_digit();
    if is_name { Ok(name.to_owned()) } else { Err(InvalidHost::BadParameter) }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Exact => f.write_str(&self.name),
            Kind::Param(param) => write!(f, "{{{param}}}.{}", self.name),
            Kind::Wildcard => write!(f, "*.{}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> HostPattern {
        text.parse().unwrap()
    }

    #[test]
    fn hosts_are_compared_without_port_dot_and_case() {
        for (given, name) in [
            ("Shop.Example.com:8080", "shop.example.com"),
            ("shop.example.com.", "shop.example.com"),
            ("[::1]:80", "[::1]"),
            ("", ""),
            (":80", ""),
            ("[", "["),
        ] {
            assert_eq!(normalized(given), name);
        }
        assert_eq!(of_url("https://Pi.example.org:8443/x"), "pi.example.org");
        assert_eq!((of_url("http://[::1]:80"), of_url("")), ("[::1]".into(), "".into()));
        assert!(is_address("127.0.0.1") && is_address("[::1]") && !is_address("a1") && !is_address("["));
    }

    #[test]
    fn patterns_print_as_written_and_a_colon_as_braces() {
        for text in ["shop.example.com", "*.example.com", "{tenant}.example.com", "xn--bcher-kva.example"] {
            assert_eq!(parse(text).to_string(), text);
        }
        assert_eq!(parse(":tenant.Example.COM.").to_string(), "{tenant}.example.com");
    }

    #[test]
    fn malformed_patterns_are_refused_with_the_reason() {
        let long = format!("{}.example.com", "a".repeat(64));
        for (text, error) in [
            ("", InvalidHost::Length),
            ("localhost", InvalidHost::TooShort),
            ("*.com", InvalidHost::TooShort),
            ("example.123", InvalidHost::TooShort),
            ("a..example.com", InvalidHost::Length),
            (".example.com", InvalidHost::Length),
            (long.as_str(), InvalidHost::Length),
            ("127.0.0.1", InvalidHost::Address),
            ("[::1]", InvalidHost::Address),
            ("example.com:80", InvalidHost::Address),
            ("bücher.example", InvalidHost::Malformed),
            ("a.*.example.com", InvalidHost::Malformed),
            ("x*.example.com", InvalidHost::Malformed),
            ("-a.example.com", InvalidHost::Malformed),
            ("a_b.example.com", InvalidHost::Malformed),
            ("a b.example.com", InvalidHost::Malformed),
            ("{}.example.com", InvalidHost::BadParameter),
            ("{a.example.com", InvalidHost::BadParameter),
            ("{1a}.example.com", InvalidHost::BadParameter),
        ] {
            assert_eq!(text.parse::<HostPattern>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_star_takes_all_below_and_a_parameter_one_label() {
        let (exact, star, param) = (parse("example.com"), parse("*.example.com"), parse("{t}.example.com"));
        assert!(exact.matches("example.com") && !exact.matches("a.example.com"));
        assert!(star.matches("a.example.com") && star.matches("b.a.example.com"));
        assert!(param.matches("a.example.com") && !param.matches("b.a.example.com"));
        for miss in ["example.com", ".example.com", "aexample.com", "a.example.org", ""] {
            assert!(!star.matches(miss) && !param.matches(miss), "{miss}");
        }
        assert_eq!((star.shape(), param.label("a.example.com")), (param.shape(), Some("a")));
    }

    #[test]
    fn a_pattern_covers_those_whose_hosts_are_all_its_own() {
        let covers = |a: &str, b: &str| parse(a).covers(&parse(b));
        assert!(covers("*.example.com", "a.b.example.com") && covers("*.example.com", "*.b.example.com"));
        assert!(covers("*.example.com", "{t}.example.com") && covers("{t}.example.com", "a.example.com"));
        assert!(covers("{a}.example.com", "{b}.example.com") && covers("a.example.com", "a.example.com"));
        assert!(!covers("{t}.example.com", "*.example.com") && !covers("*.example.com", "example.com"));
        assert!(!covers("a.example.com", "*.a.example.com") && !covers("*.a.example.com", "*.example.com"));
    }

    #[test]
    fn a_name_goes_before_a_parameter_before_the_longer_star() {
        let mut patterns = ["*.com.au", "*.a.com.au", "{t}.com.au", "x.a.com.au"].map(parse);
        patterns.sort_by(HostPattern::precedence);
        let order = patterns.map(|pattern| pattern.to_string());
        assert_eq!(order, ["x.a.com.au", "{t}.com.au", "*.a.com.au", "*.com.au"]);
    }

    proptest! {
        #[test]
        fn whatever_parses_prints_to_itself(text in "(\\*|\\{[a-z]{0,2}\\}|:[a-z]{1,2}|[a-zA-Z0-9-]{1,4})(\\.[a-zA-Z0-9-]{0,4}){0,4}") {
            if let Ok(pattern) = text.parse::<HostPattern>() {
                prop_assert_eq!(pattern.to_string().parse(), Ok(pattern));
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text: String) {
            if let Ok(pattern) = text.parse::<HostPattern>() {
                let _ = pattern.matches(&normalized(&text));
            }
            let _ = is_address(&normalized(&text));
        }

        #[test]
        fn a_covering_pattern_matches_what_the_covered_one_does(
            a in "(\\*\\.|\\{t\\}\\.)?([ab]\\.){0,2}ex\\.com",
            b in "(\\*\\.|\\{t\\}\\.)?([ab]\\.){0,2}ex\\.com",
            host in "([ab]\\.){0,4}ex\\.com",
        ) {
            let (a, b) = (parse(&a), parse(&b));
            if a.covers(&b) && b.matches(&host) {
                prop_assert!(a.matches(&host));
            }
        }
    }
}
