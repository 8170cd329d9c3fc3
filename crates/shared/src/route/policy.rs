//! What a route asks of a request besides its address, and what it adds to the answer.

use serde::{Deserialize, Serialize};

/// Longest `cache-control`.
const CACHE_CONTROL_BYTES_MAX: usize = 200;
/// Most items of a list of CORS, and the length of one.
const CORS_ITEMS_MAX: usize = 32;
const CORS_ITEM_BYTES_MAX: usize = 255;
/// A day, the longest that any browser keeps the answer to a preflight request.
const CORS_MAX_AGE_S_MAX: u32 = 86_400;
const RATE_REQUESTS_MAX: u32 = 1_000_000;
/// A day: longer periods are what budgets are for.
const RATE_PER_S_MAX: u32 = 86_400;

/// A route's policy. One that is not set asks nothing and adds nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RoutePolicy {
    pub auth: RouteAuth,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// For successful answers that say nothing about caching themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
}

/// Who may call a route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum RouteAuth {
    /// Everybody.
    #[default]
    None,
    /// Whoever sends an API key that may run the app's scripts.
    ApiKey,
    /// Whoever is logged in as one of the app's own users.
    User,
}

/// Which pages of other origins may call a route from a browser, and read the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cors {
    /// `https://app.example.com`, or `*` alone for all of them.
    pub origins: Vec<String>,
    /// Headers a page may send besides the harmless ones; `*` alone for all of them.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Headers of the answer that a page may read besides the harmless ones.
    #[serde(default)]
    pub expose: Vec<String>,
    /// Whether cookies and the like come along. Not with all origins.
    #[serde(default)]
    pub credentials: bool,
    /// How long a browser may remember the answer to its preflight request.
    #[serde(default)]
    pub max_age_s: u32,
}

/// How often a route may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RateLimit {
    /// So many requests, which may all come at once,
    pub requests: u32,
    /// in so many seconds.
    pub per_s: u32,
    #[serde(default)]
    pub by: RatePer,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum RatePer {
    /// Each client address by itself; IPv6 by the network of 64 bits that one customer has.
    #[default]
    Client,
    /// All requests of the route.
    Route,
}

/// A policy that cannot be, with the field to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct InvalidPolicy {
    pub field: &'static str,
    pub rule: String,
}

impl RoutePolicy {
    pub fn check(&self) -> Result<(), InvalidPolicy> {
        if let Some(cors) = &self.cors {
            cors.check().map_err(|rule| InvalidPolicy { field: "cors", rule })?;
        }
        if let Some(RateLimit { requests, per_s, .. }) = self.rate_limit {
            let fits = (1..=RATE_REQUESTS_MAX).contains(&requests) && (1..=RATE_PER_S_MAX).contains(&per_s);
            if !fits {
                let rule =
                    format!("requests may be 1 to {RATE_REQUESTS_MAX} and per_s 1 to {RATE_PER_S_MAX}");
                return Err(InvalidPolicy { field: "rate_limit", rule });
            }
        }
        if let Some(text) = &self.cache_control {
            let is_value = text.bytes().all(|b| (b' '..=b'~').contains(&b));
            if !is_value || !(1..=CACHE_CONTROL_BYTES_MAX).contains(&text.trim().len()) {
                let rule = format!(
                    "is a header such as public, max-age=60 of 1 to {CACHE_CONTROL_BYTES_MAX} printable characters"
                );
                return Err(InvalidPolicy { field: "cache_control", rule });
            }
        }
        Ok(())
    }
}

impl Cors {
    /// Whether a page of this origin may call.
    pub fn allows(&self, origin: &str) -> bool {
        self.is_for_all() || self.origins.iter().any(|allowed| allowed == origin)
    }

    pub fn is_for_all(&self) -> bool {
        self.origins.iter().any(|origin| origin == "*")
    }

    fn check(&self) -> Result<(), String> {
        for (name, list) in [("origins", &self.origins), ("headers", &self.headers), ("expose", &self.expose)]
        {
            let fits =
                list.len() <= CORS_ITEMS_MAX && list.iter().all(|item| item.len() <= CORS_ITEM_BYTES_MAX);
            if !fits {
                return Err(format!(
                    "{name} has at most {CORS_ITEMS_MAX} items of at most {CORS_ITEM_BYTES_MAX} bytes"
                ));
            }
            if list.len() > 1 && list.iter().any(|item| item == "*") {
                return Err(format!("{name} has '*' beside others; it stands alone"));
            }
        }
        if self.origins.is_empty() {
            return Err("origins is empty; name those that may call, or leave cors out".to_owned());
        }
        if let Some(bad) = self.origins.iter().find(|origin| *origin != "*" && !is_origin(origin)) {
            return Err(format!("{bad:?} is no origin such as https://app.example.com, without a path"));
        }
        let mut headers = self.headers.iter().filter(|name| *name != "*").chain(&self.expose);
        if let Some(bad) = headers.find(|name| http::HeaderName::from_bytes(name.as_bytes()).is_err()) {
            return Err(format!("{bad:?} is no name of a header"));
        }
        if self.credentials && self.is_for_all() {
            return Err(
                "credentials may not go with origins '*': any page could act for its visitors".to_owned()
            );
        }
        if self.max_age_s > CORS_MAX_AGE_S_MAX {
            return Err(format!("max_age_s is {}; it may be 0 to {CORS_MAX_AGE_S_MAX}", self.max_age_s));
        }
        Ok(())
    }
}

/// As browsers write one: scheme, host in lower case, and a port only when it is unusual.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let is_scheme = !scheme.is_empty()
        && scheme
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.'));
    let is_host = !host.is_empty()
        && host.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b':' | b'[' | b']')
        });
    is_scheme && is_host
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str]) -> Cors {
        Cors {
            origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            headers: Vec::new(),
            expose: Vec::new(),
            credentials: false,
            max_age_s: 0,
        }
    }

    fn refused(policy: RoutePolicy) -> &'static str {
        policy.check().unwrap_err().field
    }

    #[test]
    fn nothing_set_is_a_policy() {
        assert_eq!(RoutePolicy::default().check(), Ok(()));
        assert_eq!(serde_json::to_string(&RoutePolicy::default()).unwrap(), r#"{"auth":"none"}"#);
        assert_eq!(serde_json::from_str::<RoutePolicy>("{}").unwrap(), RoutePolicy::default());
    }

    #[test]
    fn origins_are_what_browsers_send() {
        for good in ["https://a.example", "http://localhost:3000", "https://[::1]:8443", "*"] {
            assert!(cors(&[good]).check().is_ok(), "{good}");
        }
        for bad in ["", "a.example", "https://a.example/", "https://A.example", "https://a b", "null", "://"]
        {
            assert!(cors(&[bad]).check().is_err(), "{bad}");
        }
        assert!(cors(&[]).check().is_err() && cors(&["*", "https://a.example"]).check().is_err());
        assert!(cors(&["https://a.example"]).allows("https://a.example"));
        assert!(!cors(&["https://a.example"]).allows("https://a.example.evil"));
    }

    #[test]
    fn attack_credentials_are_never_for_every_origin() {
        let all = Cors { credentials: true, ..cors(&["*"]) };
        assert_eq!(refused(RoutePolicy { cors: Some(all), ..RoutePolicy::default() }), "cors");
    }

    #[test]
    fn numbers_and_headers_out_of_range_are_refused() {
        let rate = |requests, per_s| RoutePolicy {
            rate_limit: Some(RateLimit { requests, per_s, by: RatePer::Client }),
            ..RoutePolicy::default()
        };
        assert!(rate(1, 1).check().is_ok());
        for policy in [rate(0, 1), rate(1, 0), rate(1_000_001, 1), rate(1, 86_401)] {
            assert_eq!(refused(policy), "rate_limit");
        }
        for text in ["", " ", "a\r\nset-cookie: x", &"x".repeat(201)] {
            let policy = RoutePolicy { cache_control: Some(text.to_owned()), ..RoutePolicy::default() };
            assert_eq!(refused(policy), "cache_control", "{text:?}");
        }
    }
}
