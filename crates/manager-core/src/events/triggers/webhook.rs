//! `webhook`: a signed request from somebody else's server. What a trigger is set to; who takes the
//! requests and believes them or not is `events/webhooks`.

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::limits::{
    WEBHOOK_PER_MINUTE_DEFAULT, WEBHOOK_PER_MINUTE_MAX, WEBHOOK_SECRETS_MAX, WEBHOOK_TOLERANCE_S_DEFAULT,
    WEBHOOK_TOLERANCE_S_MAX,
};
use shared::name::SecretName;

use super::InvalidConfig;

/// A scheme and its version are shorter.
const PREFIX_BYTES_MAX: usize = 32;
/// Three places, and what stands between them.
const SIGNED_BYTES_MAX: usize = 128;

/// Where the parts of a request stand in what is signed.
pub(crate) const BODY: &str = "{body}";
pub(crate) const TIMESTAMP: &str = "{timestamp}";
pub(crate) const ID: &str = "{id}";

/// Who sends, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookConfig {
    pub(crate) provider: Provider,
    /// Names of the app's secrets that requests may be signed with. More than one while a key is being
    /// replaced.
    #[schemars(length(min = 1, max = WEBHOOK_SECRETS_MAX))]
    pub(crate) secrets: Vec<SecretName>,
    /// How old a request may be, and how far in the future, where its time is signed.
    #[serde(default = "tolerance_default")]
    #[schemars(range(min = 1, max = WEBHOOK_TOLERANCE_S_MAX))]
    pub(crate) tolerance_s: u32,
    /// Signed requests that are taken in a minute; a sender of more is told when to come back.
    #[serde(default = "per_minute_default")]
    #[schemars(range(min = 1, max = WEBHOOK_PER_MINUTE_MAX))]
    pub(crate) per_minute: u32,
    /// For `hmac`: the header with the signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) header: Option<String>,
    /// For `hmac`: what stands before the signature in its header, such as `sha256=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) prefix: Option<String>,
    /// For `hmac`: how the signature is written; `hex` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) encoding: Option<Encoding>,
    /// For `hmac`: what is signed, such as `v0:{timestamp}:{body}`; the body alone, or
    /// `{timestamp}.{body}` where there is a time, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signed: Option<String>,
    /// For `hmac`: the header with the seconds since 1970. Without it who saw a request can send it
    /// again whenever they like.
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
    /// HMAC-SHA256 in a header of one's choice.
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
    WEBHOOK_TOLERANCE_S_DEFAULT
}

const fn per_minute_default() -> u32 {
    WEBHOOK_PER_MINUTE_DEFAULT
}

impl WebhookConfig {
    /// What is signed, for the provider `hmac`.
    pub(crate) fn signed(&self) -> &str {
        match (&self.signed, &self.timestamp_header) {
            (Some(signed), _) => signed,
            (None, Some(_)) => "{timestamp}.{body}",
            (None, None) => BODY,
        }
    }

    pub(super) fn checked(self) -> Result<Self, InvalidConfig> {
        if !(1..=WEBHOOK_SECRETS_MAX).contains(&self.secrets.len()) {
            let detail =
                format!("name 1 to {WEBHOOK_SECRETS_MAX} of the app's secrets: requests must be signed");
            return Err(InvalidConfig::new("secrets", detail));
        }
        for (field, value, max) in [
            ("tolerance_s", self.tolerance_s, WEBHOOK_TOLERANCE_S_MAX),
            ("per_minute", self.per_minute, WEBHOOK_PER_MINUTE_MAX),
        ] {
            if !(1..=max).contains(&value) {
                return Err(InvalidConfig::new(field, format!("{field} is {value}; it may be 1 to {max}")));
            }
        }
        match self.provider {
            Provider::Hmac => self.check_own()?,
            _ => self.check_nothing_own()?,
        }
        Ok(self)
    }

    /// The other providers have their own headers.
    fn check_nothing_own(&self) -> Result<(), InvalidConfig> {
        let own = [
            ("header", self.header.is_some()),
            ("prefix", self.prefix.is_some()),
            ("encoding", self.encoding.is_some()),
            ("signed", self.signed.is_some()),
            ("timestamp_header", self.timestamp_header.is_some()),
            ("id_header", self.id_header.is_some()),
        ];
        match own.iter().find(|(_, is_given)| *is_given) {
            Some((field, _)) => {
                Err(InvalidConfig::new(*field, format!("{field} is for the provider hmac alone")))
            }
            None => Ok(()),
        }
    }

    fn check_own(&self) -> Result<(), InvalidConfig> {
        if self.header.is_none() {
            return Err(InvalidConfig::new("header", "say which header has the signature"));
        }
        for (field, name) in [
            ("header", &self.header),
            ("timestamp_header", &self.timestamp_header),
            ("id_header", &self.id_header),
        ] {
            if name.as_ref().is_some_and(|name| name.parse::<HeaderName>().is_err()) {
                return Err(InvalidConfig::new(field, format!("{field} is no name of a header")));
            }
        }
        if self.prefix.as_ref().is_some_and(|prefix| prefix.len() > PREFIX_BYTES_MAX || !prefix.is_ascii()) {
            let detail = format!("a prefix is at most {PREFIX_BYTES_MAX} characters of ASCII");
            return Err(InvalidConfig::new("prefix", detail));
        }
        self.check_signed().map_err(|detail| InvalidConfig::new("signed", detail))
    }

    fn check_signed(&self) -> Result<(), &'static str> {
        let signed = self.signed();
        if signed.len() > SIGNED_BYTES_MAX {
            return Err("it has at most 128 bytes");
        }
        if signed.matches(BODY).count() != 1 {
            return Err("{body} must be in it once: what is not signed can be changed");
        }
        let has = |place: &str| signed.matches(place).count();
        match (has(TIMESTAMP), self.timestamp_header.is_some()) {
            (0, true) => return Err("{timestamp} must be in it: a time that is not signed can be changed"),
            (1, true) | (0, false) => {}
            (_, true) => return Err("{timestamp} may be in it once"),
            (_, false) => return Err("{timestamp} needs a timestamp_header"),
        }
        match (has(ID), self.id_header.is_some()) {
            (0, _) | (1, true) => {}
            (_, true) => return Err("{id} may be in it once"),
            (_, false) => return Err("{id} needs an id_header"),
        }
        if signed.contains("}{id}") || signed.contains("{id}{") {
            return Err("something must stand between {id} and its neighbours");
        }
        let rest =
            [BODY, TIMESTAMP, ID].iter().fold(signed.to_owned(), |rest, place| rest.replace(place, ""));
        if rest.contains(['{', '}']) {
            return Err("it has places for {timestamp}, {id} and {body}, and no others");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{Kind, TriggerConfig};
    use super::{BODY, PREFIX_BYTES_MAX, SIGNED_BYTES_MAX};

    fn refused(change: Value) -> String {
        let mut config = json!({ "provider": "hmac", "secrets": ["A"], "header": "X-Sign" });
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        TriggerConfig::parse(Kind::Webhook, &config).map_or_else(|error| error.field, |_| String::new())
    }

    #[test]
    fn what_is_signed_has_the_body_the_time_if_there_is_one_and_no_place_that_nobody_fills() {
        let timed = |signed: &str| refused(json!({ "signed": signed, "timestamp_header": "X-Time" }));
        for good in ["v0:{timestamp}:{body}", "{timestamp}{body}", "{body}|{timestamp}"] {
            assert_eq!(timed(good), "", "{good}");
        }
        for bad in ["{body}", "{timestamp}", "", "{timestamp}{timestamp}{body}", "{timestamp}.{body}.{body}"]
        {
            assert_eq!(timed(bad), "signed", "{bad}");
        }
        for bad in ["{timestamp}.{body}", "{id}.{body}", "{body", "{url}{body}", "}{body}"] {
            assert_eq!(refused(json!({ "signed": bad })), "signed", "{bad}");
        }
        let named = |signed: &str| refused(json!({ "signed": signed, "id_header": "X-Id" }));
        assert_eq!(
            [named("{id}.{body}"), named("{id}{body}"), named("{body}{id}")],
            ["", "signed", "signed"]
        );
        assert_eq!(refused(json!({ "signed": format!("{}{{body}}", "x".repeat(123)) })), "signed");
    }

    #[test]
    fn attack_a_request_that_may_come_so_late_that_its_id_is_forgotten() {
        assert_eq!(refused(json!({ "tolerance_s": 43_200 })), "");
        assert_eq!(refused(json!({ "tolerance_s": 43_201 })), "tolerance_s");
    }

    #[test]
    fn texts_at_and_over_their_lengths() {
        let pair = |most: usize, text: fn(usize) -> Value| [most, most + 1].map(|bytes| refused(text(bytes)));
        let prefix = |bytes: usize| json!({ "prefix": "x".repeat(bytes) });
        assert_eq!(pair(PREFIX_BYTES_MAX, prefix), ["", "prefix"]);
        let signed = |bytes: usize| json!({ "signed": format!("{}{BODY}", "x".repeat(bytes - BODY.len())) });
        assert_eq!(pair(SIGNED_BYTES_MAX, signed), ["", "signed"]);
        let secret = |bytes: usize| json!({ "secrets": ["x".repeat(bytes)] });
        assert_eq!(pair(128, secret), ["", "secrets[0]"]);
    }

    #[test]
    fn fields_are_refused_by_name() {
        for (change, field) in [
            (json!({ "secrets": ["A", "b c"] }), "secrets[1]"),
            (json!({ "secrets": ["A", "B", "C", "D", "E"] }), "secrets"),
            (json!({ "per_minute": 0 }), "per_minute"),
            (json!({ "id_header": "" }), "id_header"),
            (json!({ "prefix": "ü" }), "prefix"),
            (json!({ "provider": "github" }), "header"),
        ] {
            assert_eq!(refused(change.clone()), field, "{change}");
        }
    }
}
