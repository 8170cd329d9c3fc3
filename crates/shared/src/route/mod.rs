//! Route patterns and the routing table that the store hands to the router.
//!
//! How a request finds its route is the router's business; what a pattern means is said here once,
//! because the admin API refuses conflicting patterns by the same rules.

use std::cmp::{Ordering, Reverse};
use std::fmt;
use std::str::FromStr;

#[cfg(feature = "host")]
mod dispatch;
#[cfg(feature = "host")]
mod policy;
#[cfg(feature = "host")]
mod table;

#[cfg(feature = "host")]
pub use dispatch::{DispatchMode, UnknownMode};
#[cfg(feature = "host")]
pub use policy::{Cors, InvalidPolicy, RateLimit, RatePer, RouteAuth, RoutePolicy};
#[cfg(feature = "host")]
pub use table::{AppRoutes, HostRule, Route, RoutingTable, Verdict};

/// Longest pattern accepted.
const PATTERN_BYTES_MAX: usize = 1024;
/// Most segments of a pattern.
const SEGMENTS_MAX: usize = 32;
/// Path prefixes the platform keeps for itself on every host.
const RESERVED_PREFIXES: [&str; 3] = ["/api", "/admin", REALTIME_PREFIX];
/// Those among them that are for the people who run it: the admin API and the dashboard.
const PEOPLES_PREFIXES: [&str; 2] = ["/api/v1/admin", "/admin"];
/// Paths the platform keeps for itself on every host.
const RESERVED_PATHS: [&str; 5] = ["/healthz", "/readyz", "/version", "/metrics", TLS_ALLOW_PATH];
/// Where a proxy asks whether it may get a certificate for a host.
pub const TLS_ALLOW_PATH: &str = "/internal/tls-allow";

/// Below this the platform answers for apps: what is published on their topics.
const REALTIME_PREFIX: &str = "/realtime";

/// Whether this path is about the topics of the app on whose host it is asked.
pub fn is_realtime(path: &str) -> bool {
    is_below(path, REALTIME_PREFIX)
}

/// Whether the platform itself answers this path, on every host.
pub fn is_reserved(path: &str) -> bool {
    RESERVED_PATHS.contains(&path) || RESERVED_PREFIXES.iter().any(|prefix| is_below(path, prefix))
}

/// Whether a path is one of those by which people run the server. It answers them on hosts of its own,
/// not on those of apps.
pub fn is_for_people(path: &str) -> bool {
    PEOPLES_PREFIXES.iter().any(|prefix| is_below(path, prefix))
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// One part of a pattern between slashes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    Literal(String),
    /// `:name`: any one non-empty segment.
    Param(String),
}

/// A path a route answers: exact `/greet`, with parameters `/users/:id`, or a prefix `/files/*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathPattern {
    segments: Vec<Segment>,
    is_prefix: bool,
}

/// Why a pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    #[error("a path begins with '/'")]
    NoLeadingSlash,
    #[error("a path is at most {PATTERN_BYTES_MAX} bytes and {SEGMENTS_MAX} segments long")]
    TooLong,
    #[error("'*' may stand only alone as the last segment, as in /files/*")]
    MisplacedStar,
    #[error("a parameter is ':' and a name of letters, digits and '_', as in /users/:id")]
    BadParameter,
    #[error("the parameter :{0} appears twice")]
    RepeatedParameter(String),
    #[error("the character {0:?} cannot stand in a path; percent-encode it in the request instead")]
    BadCharacter(char),
    #[error("a path has no empty, '.' or '..' segment")]
    BadSegment,
    #[error("{0} is kept for the platform itself")]
    Reserved(String),
}

impl PathPattern {
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub const fn is_prefix(&self) -> bool {
        self.is_prefix
    }

    /// The pattern with its parameter names removed: two routes of one app, host and method with
    /// the same shape would answer the same requests.
    pub fn shape(&self) -> String {
        let mut shape = String::new();
        for segment in &self.segments {
            shape.push('/');
            match segment {
                Segment::Literal(text) => shape.push_str(text),
                Segment::Param(_) => shape.push(':'),
            }
        }
        match (self.is_prefix, self.segments.is_empty()) {
            (true, _) => shape.push_str("/*"),
            (false, true) => shape.push('/'),
            (false, false) => {}
        }
        shape
    }

    /// Which of two patterns that both match a path is asked first: `Less` goes first. Exact comes
    /// before parameters before prefix; then more literal segments; then more of them at the
    /// beginning; then the longer pattern.
    pub fn precedence(&self, other: &Self) -> Ordering {
        let key = |pattern: &Self| {
            let is_literal = |segment: &&Segment| matches!(segment, Segment::Literal(_));
            let literals = pattern.segments.iter().filter(is_literal).count();
            let leading = pattern.segments.iter().take_while(is_literal).count();
            let has_params = literals < pattern.segments.len();
            let class: u8 = if pattern.is_prefix { 2 } else { has_params.into() };
            (class, Reverse(literals), Reverse(leading), Reverse(pattern.segments.len()))
        };
        key(self).cmp(&key(other)).then_with(|| self.shape().cmp(&other.shape()))
    }
}

impl FromStr for PathPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let body = text.strip_prefix('/').ok_or(InvalidPattern::NoLeadingSlash)?;
        if text.len() > PATTERN_BYTES_MAX {
            return Err(InvalidPattern::TooLong);
        }
        let (body, is_prefix) = match body.strip_suffix('*') {
            Some("") => ("", true),
            Some(head) => (head.strip_suffix('/').ok_or(InvalidPattern::MisplacedStar)?, true),
            None => (body, false),
        };
        let mut segments = Vec::new();
        if !body.is_empty() {
            for part in body.split('/') {
                let segment = parse_segment(part)?;
                if let Segment::Param(name) = &segment
                    && segments.contains(&segment)
                {
                    return Err(InvalidPattern::RepeatedParameter(name.clone()));
                }
                segments.push(segment);
            }
        }
        if segments.len() > SEGMENTS_MAX {
            return Err(InvalidPattern::TooLong);
        }
        if is_reserved(text) {
            return Err(InvalidPattern::Reserved(text.to_owned()));
        }
        Ok(Self { segments, is_prefix })
    }
}

fn parse_segment(part: &str) -> Result<Segment, InvalidPattern> {
    if let Some(name) = part.strip_prefix(':') {
        let is_name = !name.is_empty()
            && name.len() <= 64
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !name.as_bytes()[0].is_ascii_digit();
        return if is_name { Ok(Segment::Param(name.to_owned())) } else { Err(InvalidPattern::BadParameter) };
    }
    if matches!(part, "" | "." | "..") {
        return Err(InvalidPattern::BadSegment);
    }
    if part.contains('*') {
        return Err(InvalidPattern::MisplacedStar);
    }
    match part
        .chars()
        .find(|c| c.is_control() || c.is_whitespace() || matches!(c, '?' | '#' | '%' | '\\' | '{' | '}'))
    {
        Some(bad) => Err(InvalidPattern::BadCharacter(bad)),
        None => Ok(Segment::Literal(part.to_owned())),
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(f, "/{text}")?,
                Segment::Param(name) => write!(f, "/:{name}")?,
            }
        }
        match (self.is_prefix, self.segments.is_empty()) {
            (true, _) => f.write_str("/*"),
            (false, true) => f.write_str("/"),
            (false, false) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<PathPattern, InvalidPattern> {
        text.parse()
    }

    #[test]
    fn patterns_print_as_written() {
        for text in ["/", "/greet", "/users/:id", "/files/*", "/*", "/a/:b/c/*"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn malformed_patterns_are_refused_with_the_reason() {
        let cases = [
            ("", InvalidPattern::NoLeadingSlash),
            ("greet", InvalidPattern::NoLeadingSlash),
            ("/a*", InvalidPattern::MisplacedStar),
            ("/*/a", InvalidPattern::MisplacedStar),
            ("/a//b", InvalidPattern::BadSegment),
            ("/a/", InvalidPattern::BadSegment),
            ("/a/../b", InvalidPattern::BadSegment),
            ("/:", InvalidPattern::BadParameter),
            ("/:1a", InvalidPattern::BadParameter),
            ("/:a/:a", InvalidPattern::RepeatedParameter("a".into())),
            ("/a b", InvalidPattern::BadCharacter(' ')),
            ("/a%20b", InvalidPattern::BadCharacter('%')),
            ("/a\0", InvalidPattern::BadCharacter('\0')),
            ("/api/x", InvalidPattern::Reserved("/api/x".into())),
            ("/healthz", InvalidPattern::Reserved("/healthz".into())),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        assert!(parse("/apis").is_ok());
    }

    #[test]
    fn what_is_for_people_is_the_platforms() {
        for path in ["/admin", "/admin/x", "/api/v1/admin", "/api/v1/admin/apps"] {
            assert!(is_for_people(path) && is_reserved(path), "{path}");
        }
        for path in ["/", "/administration", "/api/v1/execute/x", "/api/v1/administration", "/healthz"] {
            assert!(!is_for_people(path), "{path}");
        }
    }

    #[test]
    fn shape_ignores_parameter_names() {
        assert_eq!(parse("/u/:id").unwrap().shape(), parse("/u/:name").unwrap().shape());
        assert_ne!(parse("/u/:id").unwrap().shape(), parse("/u/*").unwrap().shape());
    }

    #[test]
    fn exact_goes_before_param_before_prefix() {
        let mut patterns: Vec<_> =
            ["/*", "/a/*", "/:x", "/:x/b", "/a/:x", "/a/b", "/a/:x/c"].map(|t| parse(t).unwrap()).to_vec();
        patterns.sort_by(PathPattern::precedence);
        let order: Vec<_> = patterns.iter().map(ToString::to_string).collect();
        assert_eq!(order, ["/a/b", "/a/:x/c", "/a/:x", "/:x/b", "/:x", "/a/*", "/*"]);
    }

    proptest! {
        #[test]
        fn whatever_parses_prints_to_itself(text in "(/[:a-z*.]{0,4}){0,5}") {
            if let Ok(pattern) = parse(&text) {
                prop_assert_eq!(pattern.to_string().parse(), Ok(pattern));
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text: String) {
            let _ = parse(&text);
        }
    }
}
