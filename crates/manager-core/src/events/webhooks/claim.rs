//! What a request says of itself, before anybody believes it: by whose signature, from when, under
//! which id. Read from its headers alone, so that a request which says nothing costs nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signature;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::Sha256;

use super::Refused;
use super::keys::Key;
use crate::events::triggers::webhook::{BODY, Encoding, ID, Provider, TIMESTAMP, WebhookConfig};

/// Signatures that one request may bring, while its sender replaces a key.
const SIGNATURES_MAX: usize = 8;

/// What is to be believed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// As bytes; of none but the right length can be right.
    signatures: Vec<Vec<u8>>,
    /// Those that were made with a key of which the sender has the secret half.
    ed25519: Vec<Vec<u8>>,
    /// What is signed before the body, and behind it.
    before: String,
    after: String,
    /// Seconds since 1970, where they are signed.
    time: Option<i64>,
    /// Under which the sender knows it, where a header says so.
    pub(super) id: Option<String>,
}

impl Claim {
    pub(crate) fn read(config: &WebhookConfig, headers: &HeaderMap) -> Result<Self, Refused> {
        match config.provider {
            Provider::Standard => standard(headers),
            Provider::Github => github(headers),
            Provider::Stripe => stripe(headers),
            Provider::Hmac => own(config, headers),
        }
    }

    /// Refuses what was signed too long ago, or is from the future.
    pub(crate) fn check_time(&self, tolerance_s: u32, now: i64) -> Result<(), Refused> {
        match self.time {
            Some(time) if now.abs_diff(time) > u64::from(tolerance_s) => {
                Err(Refused::Stale { time, now, tolerance_s })
            }
            _ => Ok(()),
        }
    }

    pub(super) const fn is_timed(&self) -> bool {
        self.time.is_some()
    }

    /// Whether one of the signatures was made with the key. Takes as long whatever bytes are wrong.
    pub(super) fn is_signed_with(&self, key: &Key, body: &[u8]) -> bool {
        let key = match key {
            Key::Shared(key) => key,
            Key::Public(key) => {
                let signed = self.signed(body).concat();
                let mut signatures =
                    self.ed25519.iter().filter_map(|bytes| Signature::from_slice(bytes).ok());
                return signatures.any(|signature| key.verify_strict(&signed, &signature).is_ok());
            }
        };
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
        let mac = mac.chain_update(&self.before).chain_update(body).chain_update(&self.after);
        self.signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok())
    }

    /// What was signed, in its parts.
    pub(super) fn signed<'a>(&'a self, body: &'a [u8]) -> [&'a [u8]; 3] {
        [self.before.as_bytes(), body, self.after.as_bytes()]
    }
}

/// `webhook-signature: v1,…base64… v1a,…`: HMAC, and Ed25519. Other versions are passed over.
fn standard(headers: &HeaderMap) -> Result<Claim, Refused> {
    let (id, time) = (one(headers, "webhook-id")?, one(headers, "webhook-timestamp")?);
    if id.is_empty() || is_ambiguous("{id}.{timestamp}.{body}", id) {
        return Err(Refused::unreadable("webhook-id"));
    }
    let header = "webhook-signature";
    let text = one(headers, header)?;
    let of = |version: &'static str| {
        text.split(' ').filter_map(move |text| base64(text.strip_prefix(version)?)).take(SIGNATURES_MAX)
    };
    let ed25519: Vec<_> = of("v1a,").collect();
    let signatures = match ed25519.is_empty() {
        true => some(of("v1,"), header)?,
        false => of("v1,").collect(),
    };
    Ok(Claim {
        signatures,
        ed25519,
        before: format!("{id}.{time}."),
        after: String::new(),
        time: Some(seconds(time).ok_or_else(|| Refused::unreadable("webhook-timestamp"))?),
        id: Some(id.to_owned()),
    })
}

/// `X-Hub-Signature-256: sha256=…hex…`. The older `X-Hub-Signature` is SHA-1, and not looked at.
fn github(headers: &HeaderMap) -> Result<Claim, Refused> {
    let header = "x-hub-signature-256";
    let signature = one(headers, header)?.strip_prefix("sha256=").and_then(hex);
    Ok(Claim {
        signatures: some(signature.into_iter(), header)?,
        ed25519: Vec::new(),
        before: String::new(),
        after: String::new(),
        time: None,
        id: optional(headers, "x-github-delivery")?.map(ToOwned::to_owned),
    })
}

/// `Stripe-Signature: t=1700000000,v1=…hex…,v1=…`. The id is in the body.
fn stripe(headers: &HeaderMap) -> Result<Claim, Refused> {
    let header = "stripe-signature";
    let parts: Vec<_> =
        one(headers, header)?.split(',').filter_map(|part| part.trim().split_once('=')).collect();
    let of = |name: &'static str| parts.iter().filter(move |(its, _)| *its == name).map(|(_, text)| *text);
    let mut times = of("t");
    let (Some(time), None) = (times.next(), times.next()) else { return Err(Refused::unreadable(header)) };
    Ok(Claim {
        signatures: some(of("v1").filter_map(hex), header)?,
        ed25519: Vec::new(),
        before: format!("{time}."),
        after: String::new(),
        time: Some(seconds(time).ok_or_else(|| Refused::unreadable(header))?),
        id: None,
    })
}

fn own(config: &WebhookConfig, headers: &HeaderMap) -> Result<Claim, Refused> {
    let header = config.header.as_deref().unwrap_or_default();
    let text = one(headers, header)?.strip_prefix(config.prefix.as_deref().unwrap_or_default());
    let signature = text.and_then(match config.encoding.unwrap_or_default() {
        Encoding::Hex => hex,
        Encoding::Base64 => base64,
    });
    let timestamp = config.timestamp_header.as_deref();
    let time = timestamp.map(|name| one(headers, name)).transpose()?;
    let seconds = time
        .map(|time| seconds(time).ok_or_else(|| Refused::unreadable(timestamp.unwrap_or_default())))
        .transpose()?;
    let id = config.id_header.as_deref().map(|name| one(headers, name)).transpose()?;
    if id.is_some_and(|id| is_ambiguous(config.signed(), id)) {
        return Err(Refused::unreadable(config.id_header.as_deref().unwrap_or_default()));
    }
    let (before, after) = config.signed().split_once(BODY).unwrap_or_default();
    // The id comes last: it is the only text that could have a place in it.
    let filled =
        |text: &str| text.replace(TIMESTAMP, time.unwrap_or_default()).replace(ID, id.unwrap_or_default());
    Ok(Claim {
        signatures: some(signature.into_iter(), header)?,
        ed25519: Vec::new(),
        before: filled(before),
        after: filled(after),
        time: seconds,
        id: id.map(ToOwned::to_owned),
    })
}

/// Whether an id has what parts it from its neighbours in what is signed: then some of the body could be
/// passed off as part of the id, and the other way round.
fn is_ambiguous(signed: &str, id: &str) -> bool {
    let Some((before, behind)) = signed.split_once(ID) else { return false };
    let parting = before.chars().next_back().into_iter().chain(behind.chars().next());
    parting.into_iter().any(|parting| id.contains(parting))
}

/// At least one signature, none of them empty, and not too many.
fn some(signatures: impl Iterator<Item = Vec<u8>>, header: &str) -> Result<Vec<Vec<u8>>, Refused> {
    let signatures: Vec<_> = signatures.take(SIGNATURES_MAX).collect();
    if signatures.is_empty() || signatures.iter().any(Vec::is_empty) {
        Err(Refused::unreadable(header))
    } else {
        Ok(signatures)
    }
}

/// A header that is there.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Refused> {
    optional(headers, name)?.ok_or_else(|| Refused::Missing(name.to_owned()))
}

/// A header that is there at most once: of two, a proxy and we might believe different ones.
fn optional<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refused> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text.trim())),
        _ => Err(Refused::unreadable(name)),
    }
}

/// Digits and nothing else: no sign, no fraction.
fn seconds(text: &str) -> Option<i64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::testing::{config, headers, hex_of, provider};
    use super::*;

    fn read(config: &WebhookConfig, pairs: &[(&str, &str)]) -> Result<Claim, Refused> {
        Claim::read(config, &headers(pairs))
    }

    #[test]
    fn attack_headers_that_are_missing_doubled_or_malformed_are_no_claim() {
        let github = provider("github");
        let name = "x-hub-signature-256";
        for bad in ["", "sha256=", "sha1=00", "sha256=zz", "sha256=0", "sha256=+f", "SHA256=00", "00"] {
            assert_eq!(read(&github, &[(name, bad)]), Err(Refused::unreadable(name)), "{bad}");
        }
        assert_eq!(read(&github, &[]), Err(Refused::Missing(name.into())));
        assert!(read(&github, &[(name, "sha256=00")]).is_ok());
        assert_eq!(read(&github, &[(name, "sha256=00"); 2]), Err(Refused::unreadable(name)));
        let twice = [(name, "sha256=00"), ("x-github-delivery", "a"), ("x-github-delivery", "b")];
        assert_eq!(read(&github, &twice), Err(Refused::unreadable("x-github-delivery")));

        let stripe = provider("stripe");
        for bad in ["t=1", "v1=00", "t=1,t=1,v1=00", "t=x,v1=00", "t=-1,v1=00", "t=1,v1=0", "t=1 v1=00"] {
            let name = "stripe-signature";
            assert_eq!(read(&stripe, &[(name, bad)]), Err(Refused::unreadable(name)), "{bad}");
        }
    }

    #[test]
    fn attack_the_headers_of_another_scheme_are_no_claim() {
        let of = [
            (
                "standard",
                vec![("webhook-id", "a"), ("webhook-timestamp", "1"), ("webhook-signature", "v1,AAAA")],
            ),
            ("github", vec![("x-hub-signature-256", "sha256=00")]),
            ("stripe", vec![("stripe-signature", "t=1,v1=00")]),
        ];
        for (its, _) in &of {
            for (name, pairs) in &of {
                assert_eq!(
                    read(&provider(its), pairs).is_ok(),
                    its == name,
                    "{its} with the headers of {name}"
                );
            }
        }
        // GitHub's old signature, in SHA-1, beside none in SHA-256.
        assert!(read(&provider("github"), &[("x-hub-signature", "sha1=00")]).is_err());
    }

    #[test]
    fn attack_an_id_with_a_dot_would_make_a_time_of_the_body() {
        let with = |id: &str| {
            let time_and_signature = [("webhook-timestamp", "2"), ("webhook-signature", "v1,AAAA")];
            read(&provider("standard"), &[&[("webhook-id", id)], &time_and_signature[..]].concat())
        };
        // `a.1.2.x` is the body `2.x` of `a` at 1, or the body `x` of `a.1` at 2.
        assert_eq!(with("a.1"), Err(Refused::unreadable("webhook-id")));
        assert_eq!(with(""), Err(Refused::unreadable("webhook-id")));
        assert!(with("a").is_ok());
        let own = config(&json!({
            "provider": "hmac", "secrets": ["A"], "header": "x-sign", "id_header": "x-id", "signed": "{body}/{id}",
        }));
        let own = |id: &str| read(&own, &[("x-sign", "00"), ("x-id", id)]);
        assert_eq!(own("a/b"), Err(Refused::unreadable("x-id")));
        assert!(own("a.b").is_ok());
    }

    #[test]
    fn a_sender_that_replaces_its_key_signs_twice() {
        let claim = read(&provider("stripe"), &[("stripe-signature", "t=7, v1=0a, v0=ff, v1=Ff")]).unwrap();
        assert_eq!((claim.signatures, claim.before.as_str()), (vec![vec![0x0a], vec![0xff]], "7."));
        let many = format!("t=7{}", ",v1=00".repeat(1_000));
        let claim = read(&provider("stripe"), &[("stripe-signature", &many)]).unwrap();
        assert_eq!(claim.signatures.len(), SIGNATURES_MAX);
    }

    #[test]
    fn what_is_signed_is_put_together_as_the_trigger_says() {
        let own = config(&json!({
            "provider": "hmac", "secrets": ["A"], "header": "X-Sign", "prefix": "v0=", "encoding": "base64",
            "timestamp_header": "X-Time", "id_header": "X-Id", "signed": "v0:{timestamp}:{body}:{id}",
        }));
        let claim =
            read(&own, &[("x-sign", "v0=AAAA"), ("x-time", "12"), ("x-id", "{timestamp}{id}")]).unwrap();
        assert_eq!((claim.before.as_str(), claim.after.as_str()), ("v0:12:", ":{timestamp}{id}"));
        assert_eq!((claim.time, claim.signatures), (Some(12), vec![vec![0, 0, 0]]));
        let without = |name: &str| {
            let all = [("x-sign", "v0=AAAA"), ("x-time", "12"), ("x-id", "7")];
            let rest: Vec<_> = all.into_iter().filter(|(its, _)| *its != name).collect();
            read(&own, &rest).is_err()
        };
        assert!(without("x-sign") && without("x-time") && without("x-id") && !without("x-other"));
    }

    #[test]
    fn times_that_no_clock_has_are_too_far_away() {
        let claim = |time: &str| {
            let pairs = [("webhook-id", "a"), ("webhook-timestamp", time), ("webhook-signature", "v1,AAAA")];
            read(&provider("standard"), &pairs)
        };
        assert!(claim("9223372036854775808").is_err());
        assert!(claim("9223372036854775807").unwrap().check_time(43_200, 1_700_000_000).is_err());
        assert!(claim("0").unwrap().check_time(43_200, 1_700_000_000).is_err());
        for (time, is_good) in [(100, true), (99, false), (700, true), (701, false)] {
            assert_eq!(claim(&time.to_string()).unwrap().check_time(300, 400).is_ok(), is_good, "{time}");
        }
    }

    /// What a stranger may send under the name of one of our headers.
    fn any_value() -> impl Strategy<Value = HeaderValue> {
        let likely =
            "(sha256=|v1,|t=|v1=|v0=|[0-9]{1,20}|[0-9a-fA-F]{0,8}|[A-Za-z0-9+/]{0,8}={0,2}|[ ,.=]){0,6}";
        let texts = prop_oneof![likely, "[ -~]{0,60}"].prop_map(String::into_bytes);
        let bytes = prop_oneof![texts, proptest::collection::vec(any::<u8>(), 0..60)];
        bytes.prop_filter_map("no value of a header", |bytes| HeaderValue::from_bytes(&bytes).ok())
    }

    const NAMES: [&str; 8] = [
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "x-hub-signature-256",
        "x-github-delivery",
        "stripe-signature",
        "x-sign",
        "x-time",
    ];

    fn all_providers() -> Vec<WebhookConfig> {
        let own = json!({
            "provider": "hmac", "secrets": ["A"], "header": "x-sign", "prefix": "v0=",
            "timestamp_header": "x-time", "id_header": "webhook-id", "signed": "{id}.{timestamp}.{body}",
        });
        ["standard", "github", "stripe"].map(provider).into_iter().chain([config(&own)]).collect()
    }

    proptest! {
        #[test]
        fn any_headers_are_a_bounded_claim_or_refused(
            values in proptest::collection::vec((0..NAMES.len(), any_value()), 0..12),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in values {
                headers.append(NAMES[name], value);
            }
            for config in all_providers() {
                if let Ok(claim) = Claim::read(&config, &headers) {
                    prop_assert!(claim.signatures.len().max(claim.ed25519.len()) <= SIGNATURES_MAX);
                    prop_assert!(!claim.signatures.is_empty() || !claim.ed25519.is_empty());
                    prop_assert!(claim.time.is_none_or(|time| time >= 0));
                    // Nobody has this key.
                    let key = Key::Shared(b"a key that no signature was made with".to_vec().into());
                    prop_assert!(!claim.is_signed_with(&key, b"body"));
                }
            }
        }

        #[test]
        fn hexadecimal_is_read_as_it_was_written_and_nothing_else_is_read(
            bytes: Vec<u8>,
            text in "[0-9a-fA-F+x _-]{0,12}",
        ) {
            prop_assert_eq!(hex(&hex_of(&bytes)), Some(bytes.clone()));
            prop_assert_eq!(hex(&hex_of(&bytes).to_uppercase()), Some(bytes));
            match hex(&text) {
                Some(read) => prop_assert_eq!(hex_of(&read), text.to_lowercase()),
                None => prop_assert!(text.len() % 2 == 1 || text.contains(['+', 'x', ' ', '_', '-'])),
            }
        }

        #[test]
        fn a_time_is_digits_and_nothing_else(time in 0..i64::MAX, before in "[+ -]", text in "[0-9+ _.-]{0,20}") {
            prop_assert_eq!(seconds(&time.to_string()), Some(time));
            prop_assert_eq!(seconds(&format!("{before}{time}")), None);
            if let Some(time) = seconds(&text) {
                prop_assert_eq!(time.to_string(), match text.trim_start_matches('0') { "" => "0", rest => rest });
            }
        }
    }
}
