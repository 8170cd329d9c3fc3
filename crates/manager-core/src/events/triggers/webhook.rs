//! `webhook`: a signed request from somebody else's server. What a trigger is set to; the endpoint
//! that checks signatures is in `events/webhooks`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::InvalidConfig;

/// Keys that are good at the same time: the new one, the old one, and one to spare.
const SECRETS_MAX: usize = 4;
const TOLERANCE_S_DEFAULT: u32 = 300;
/// A day: who is later than that sends it again.
const TOLERANCE_S_MAX: u32 = 24 * 60 * 60;

/// Who sends, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookConfig {
    pub(crate) provider: Provider,
    /// Names of the app's secrets that requests may be signed with. More than one while a key is being
    /// replaced.
    #[schemars(length(min = 1, max = SECRETS_MAX))]
    pub(crate) secrets: Vec<String>,
    /// How old a request may be, and how far in the future, for the providers that sign its time.
    #[serde(default = "tolerance_default")]
    #[schemars(range(min = 1, max = TOLERANCE_S_MAX))]
    pub(crate) tolerance_s: u32,
    /// For `hmac`: the header with the signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) header: Option<String>,
    /// For `hmac`: what stands before the signature in its header, such as `sha256=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) prefix: Option<String>,
    /// For `hmac`: how the signature is written; `hex` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) encoding: Option<Encoding>,
    /// For `hmac`: the header with the seconds since 1970, which are then signed too, as
    /// `<time>.<body>`. Without it requests can be sent again by whoever saw one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp_header: Option<String>,
    /// For `hmac`: the header with an id, by which a request that is sent twice is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id_header: Option<String>,
}

/// Whose way of signing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Provider {
    /// Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
    Standard,
    /// `X-Hub-Signature-256`.
    Github,
    /// `Stripe-Signature`.
    Stripe,
    /// HMAC-SHA256 of the body in a header of one's choice.
    Hmac,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Encoding {
    #[default]
    Hex,
    Base64,
}

impl Provider {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Github => "github",
            Self::Stripe => "stripe",
            Self::Hmac => "hmac",
        }
    }
}

const fn tolerance_default() -> u32 {
    TOLERANCE_S_DEFAULT
}

impl WebhookConfig {
    pub(super) fn checked(self) -> Result<Self, InvalidConfig> {
        let wrong = |field: &str, detail: String| Err(InvalidConfig::new(field, detail));
        if !(1..=SECRETS_MAX).contains(&self.secrets.len()) {
            let detail = format!("name 1 to {SECRETS_MAX} of the app's secrets: requests must be signed");
            return wrong("secrets", detail);
        }
        if let Some(at) = self.secrets.iter().position(|name| name.is_empty() || name.len() > 128) {
            return wrong(&format!("secrets[{at}]"), "this is no name of a secret".to_owned());
        }
        if !(1..=TOLERANCE_S_MAX).contains(&self.tolerance_s) {
            let detail = format!("tolerance_s is {}; it may be 1 to {TOLERANCE_S_MAX}", self.tolerance_s);
            return wrong("tolerance_s", detail);
        }
        let own = [
            ("header", self.header.is_some()),
            ("prefix", self.prefix.is_some()),
            ("encoding", self.encoding.is_some()),
            ("timestamp_header", self.timestamp_header.is_some()),
            ("id_header", self.id_header.is_some()),
        ];
        if self.provider != Provider::Hmac {
            let given = own.iter().find(|(_, is_given)| *is_given);
            return match given {
                Some((field, _)) => wrong(field, format!("{field} is for the provider hmac alone")),
                None => Ok(self),
            };
        }
        if self.header.is_none() {
            return wrong("header", "say which header has the signature".to_owned());
        }
        for (field, name) in [
            ("header", &self.header),
            ("timestamp_header", &self.timestamp_header),
            ("id_header", &self.id_header),
        ] {
            if name.as_ref().is_some_and(|name| name.parse::<http::HeaderName>().is_err()) {
                return wrong(field, format!("{field} is no name of a header"));
            }
        }
        if self.prefix.as_ref().is_some_and(|prefix| prefix.len() > 32 || !prefix.is_ascii()) {
            return wrong("prefix", "a prefix is at most 32 characters of ASCII".to_owned());
        }
        Ok(self)
    }
}
