//! Published examples of each provider, and signatures made here as their senders would.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;
use serde_json::{Value, json};
use shared::id::AppId;

use super::testing::{config, headers, hex_of, mac, provider};
use super::*;
use crate::events::triggers::Kind;
use crate::events::triggers::testing::trigger;

const NOW: i64 = 1_700_000_000;

/// Whether a request would be believed.
fn judge(
    config: &WebhookConfig,
    keys: &[&[u8]],
    pairs: &[(&str, &str)],
    body: &[u8],
    now: i64,
) -> Result<(), Refused> {
    let keys: Vec<Key> = keys.iter().map(|key| Key::Shared(key.to_vec().into())).collect();
    judge_by(config, &keys, pairs, body, now)
}

fn judge_by(
    config: &WebhookConfig,
    keys: &[Key],
    pairs: &[(&str, &str)],
    body: &[u8],
    now: i64,
) -> Result<(), Refused> {
    let headers = headers(pairs);
    let claim = Claim::read(config, &headers)?;
    claim.check_time(config.tolerance_s, now)?;
    let trigger = trigger(AppId::new(), Kind::Webhook, &json!(config));
    let arrival = Arrival { trigger: &trigger, config, claim: &claim, headers: &headers, body };
    arrival.check_signature(keys).map_err(|error| match error {
        WebhookError::Refused(refused) => refused,
        other => panic!("{other}"),
    })
}

/// Asserts that a request is believed, and none that differs in a bit of its body, or in its key.
#[track_caller]
fn is_the_only_one(config: &WebhookConfig, key: &[u8], pairs: &[(&str, &str)], body: &[u8], now: i64) {
    assert_eq!(judge(config, &[key], pairs, body, now), Ok(()));
    assert_eq!(
        judge(config, &[b"another", key], pairs, body, now),
        Ok(()),
        "either key of a rotation will do"
    );
    assert_eq!(judge(config, &[b"another"], pairs, body, now), Err(Refused::WrongSignature));
    for at in 0..body.len() {
        let mut other = body.to_vec();
        other[at] ^= 1;
        assert_eq!(judge(config, &[key], pairs, &other, now), Err(Refused::WrongSignature), "byte {at}");
    }
    for other in [&body[..body.len() - 1], &[body, b"\n"].concat()] {
        assert_eq!(judge(config, &[key], pairs, other, now), Err(Refused::WrongSignature));
    }
}

#[test]
fn the_example_that_github_publishes_is_believed() {
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let pairs = [("x-hub-signature-256", signature), ("x-github-delivery", "d-1")];
    is_the_only_one(&provider("github"), b"It's a Secret to Everybody", &pairs, b"Hello, World!", NOW);
}

/// A sender's pair of keys: the secret half, and what it shows of the other.
fn pair_of_keys(seed: u8) -> (SigningKey, String) {
    let signing = SigningKey::from_bytes(&[seed; 32]);
    let public = format!("whpk_{}", STANDARD.encode(signing.verifying_key().as_bytes()));
    (signing, public)
}

fn ed25519_of(signing: &SigningKey, body: &[u8]) -> String {
    let signed = [format!("msg_1.{NOW}.").as_bytes(), body].concat();
    format!("v1a,{}", STANDARD.encode(signing.sign(&signed).to_bytes()))
}

#[test]
fn a_sender_that_keeps_its_key_to_itself_is_believed_by_its_public_one() {
    let (standard, time, body) = (provider("standard"), NOW.to_string(), br#"{"type":"ping"}"#);
    let ((signing, public), (_, other)) = (pair_of_keys(1), pair_of_keys(2));
    let keys = |secret: &str| keys::of_secret(Provider::Standard, secret.as_bytes());
    let judge = |keys: &[Key], signature: &str, body: &[u8]| {
        let pairs =
            [("webhook-id", "msg_1"), ("webhook-timestamp", time.as_str()), ("webhook-signature", signature)];
        judge_by(&standard, keys, &pairs, body, NOW)
    };
    let signature = ed25519_of(&signing, body);
    assert_eq!(judge(&keys(&public), &signature, body), Ok(()));
    // Beside one of the other kind, as a sender that goes over to it sends.
    assert_eq!(judge(&keys(&public), &format!("v1,AAAA {signature}"), body), Ok(()));
    for at in 0..body.len() {
        let mut changed = body.to_vec();
        changed[at] ^= 1;
        assert_eq!(judge(&keys(&public), &signature, &changed), Err(Refused::WrongSignature), "byte {at}");
    }
    assert_eq!(judge(&keys(&other), &signature, body), Err(Refused::WrongSignature));
    for short in ["v1a,AAAA", "v1a,AAAA v1a,AAAA"] {
        assert_eq!(judge(&keys(&public), short, body), Err(Refused::WrongSignature));
    }
}

#[test]
fn attack_a_public_key_is_no_secret_to_sign_with() {
    let (standard, time, body) = (provider("standard"), NOW.to_string(), b"{}");
    let (signing, public) = pair_of_keys(1);
    let known = signing.verifying_key().to_bytes();
    let keys = keys::of_secret(Provider::Standard, public.as_bytes());
    let encoded = STANDARD.encode(known);
    for key in [&known[..], public.as_bytes(), encoded.as_bytes()] {
        let signature = STANDARD.encode(mac(key, &[format!("msg_1.{NOW}.").as_bytes(), body]));
        for version in ["v1", "v1a"] {
            let signature = format!("{version},{signature}");
            let pairs = [
                ("webhook-id", "msg_1"),
                ("webhook-timestamp", time.as_str()),
                ("webhook-signature", signature.as_str()),
            ];
            assert_eq!(judge_by(&standard, &keys, &pairs, body, NOW), Err(Refused::WrongSignature));
        }
    }
}

#[test]
fn the_examples_of_standard_webhooks_are_believed() {
    // Of the simulator of standardwebhooks.com, and of Svix, with whom the scheme began.
    let examples = [
        (
            "whsec_plJ3nmyCDGBKInavdOK15jsl",
            ["msg_loFOjxBNrRLzqYUf", "1731705121", "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="],
            r#"{"event_type":"ping","data":{"success":true}}"#,
        ),
        (
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            ["msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="],
            r#"{"test": 2432232314}"#,
        ),
    ];
    for (secret, [id, time, signature], body) in examples {
        let standard = provider("standard");
        let keys = keys::of_secret(Provider::Standard, secret.as_bytes());
        let [Key::Shared(key)] = keys.as_slice() else { panic!("one secret, one key") };
        let key = key.as_slice();
        let pairs = [("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", signature)];
        let at: i64 = time.parse().unwrap();
        is_the_only_one(&standard, key, &pairs, body.as_bytes(), at);
        for now in [at - 301, at + 301] {
            let judged = judge(&standard, &[key], &pairs, body.as_bytes(), now);
            assert_eq!(judged, Err(Refused::Stale { time: at, now, tolerance_s: 300 }));
        }
        // Neither the id nor the time can be exchanged.
        for (at, (name, value)) in
            [("webhook-id", "msg_1"), ("webhook-timestamp", "1731705122")].into_iter().enumerate()
        {
            let mut other = pairs;
            other[at] = (name, value);
            let now = other[1].1.parse().unwrap();
            assert_eq!(judge(&standard, &[key], &other, body.as_bytes(), now), Err(Refused::WrongSignature));
        }
    }
}

#[test]
fn the_example_that_slack_publishes_is_believed() {
    let slack = config(&json!({
        "provider": "hmac", "secrets": ["A"], "header": "X-Slack-Signature", "prefix": "v0=",
        "timestamp_header": "X-Slack-Request-Timestamp", "signed": "v0:{timestamp}:{body}",
    }));
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V\
        &channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=\
        &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
        &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let pairs = [
        ("x-slack-signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
        ("x-slack-request-timestamp", "1531420618"),
    ];
    is_the_only_one(&slack, b"8f742231b10e8888abcd99yyyzzz85a5", &pairs, body.as_bytes(), 1_531_420_618);
}

#[test]
fn stripe_signs_the_time_and_may_sign_twice() {
    let (key, body) = (&b"whsec_test"[..], br#"{"id":"evt_1"}"#);
    let good = hex_of(&mac(key, &[b"1700000000.", body]));
    let signed = format!("t={NOW},v1={},v1={good},v0=ff", "0".repeat(64));
    is_the_only_one(&provider("stripe"), key, &[("stripe-signature", &signed)], body, NOW);
    let other_time = format!("t={},v1={good}", NOW + 1);
    let judged = judge(&provider("stripe"), &[key], &[("stripe-signature", &other_time)], body, NOW);
    assert_eq!(judged, Err(Refused::WrongSignature));
    // A signature of another version counts for nothing.
    let old = format!("t={NOW},v0={good}");
    let judged = judge(&provider("stripe"), &[key], &[("stripe-signature", &old)], body, NOW);
    assert_eq!(judged, Err(Refused::unreadable("stripe-signature")));
}

#[test]
fn a_body_alone_may_be_signed_in_base64() {
    let shop = json!({ "provider": "hmac", "secrets": ["A"], "header": "X-Shop-Hmac", "encoding": "base64" });
    let signature = STANDARD.encode(mac(b"key", &[b"{}"]));
    is_the_only_one(&config(&shop), b"key", &[("x-shop-hmac", &signature)], b"{}", NOW);
}

fn identities(config: &Value, pairs: &[(&str, &str)], body: &[u8]) -> Vec<Identity> {
    let config = self::config(config);
    let headers = headers(pairs);
    let claim = Claim::read(&config, &headers).unwrap();
    let trigger = trigger(AppId::new(), Kind::Webhook, &json!(config));
    Arrival { trigger: &trigger, config: &config, claim: &claim, headers: &headers, body }.identities()
}

#[test]
fn a_request_that_is_sent_again_is_known_by_its_id_and_without_one_by_what_is_signed() {
    let github = |id: &str, body: &[u8]| {
        let pairs = [("x-hub-signature-256", "sha256=00"), ("x-github-delivery", id)];
        identities(&json!({ "provider": "github", "secrets": ["A"] }), &pairs, body)
    };
    assert_eq!((github("a", b"x").len(), github("a", b"x")), (1, github("a", b"x")));
    assert_ne!(github("a", b"x")[0].key, github("b", b"x")[0].key);
    assert_ne!(github("a", b"x")[0].content, github("a", b"y")[0].content);

    let stripe = |time: i64, body: &str| {
        let header = format!("t={time},v1=00");
        let config = json!({ "provider": "stripe", "secrets": ["A"] });
        identities(&config, &[("stripe-signature", &header)], body.as_bytes())
    };
    let first = stripe(1, r#"{"id":"evt_1","pending_webhooks":2}"#);
    assert_eq!(first, stripe(9, r#"{"id":"evt_1","pending_webhooks":1}"#), "the same event, sent again");
    assert_ne!(first[0].key, stripe(1, r#"{"id":"evt_2"}"#)[0].key);
    assert_eq!(stripe(1, "{}"), stripe(1, "{}"));
    assert_ne!(
        stripe(1, "{}")[0].key,
        stripe(2, "{}")[0].key,
        "without an id, another time is another event"
    );

    // Nothing tells a second event from the first one sent again.
    let plain = json!({ "provider": "hmac", "secrets": ["A"], "header": "x-sign" });
    assert!(identities(&plain, &[("x-sign", "00")], b"tick").is_empty());
}

#[test]
fn attack_an_id_that_is_not_signed_is_exchanged() {
    let with = |id: &str, signed: &str| {
        let config = json!({
            "provider": "hmac", "secrets": ["A"], "header": "x-sign", "timestamp_header": "x-time",
            "id_header": "x-id", "signed": signed,
        });
        identities(&config, &[("x-sign", "00"), ("x-time", "7"), ("x-id", id)], b"{}")
    };
    let [first, second] = ["1", "2"].map(|id| with(id, "{timestamp}.{body}"));
    assert_eq!((first.len(), &first[1]), (2, &second[1]), "known by what is signed");
    assert_ne!(first[0].key, second[0].key);
    // With another id this one's signature would be wrong.
    assert_eq!(with("1", "{id}.{timestamp}.{body}").len(), 1);
}

proptest! {
    #[test]
    fn whatever_is_signed_is_believed_and_no_other_body_or_key(
        key in proptest::collection::vec(any::<u8>(), 1..80),
        id in "[a-zA-Z0-9_-]{1,40}",
        body in proptest::collection::vec(any::<u8>(), 0..200),
        other in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let own = config(&json!({
            "provider": "hmac", "secrets": ["A"], "header": "x-sign", "timestamp_header": "x-time",
            "id_header": "x-id", "signed": "{timestamp}/{body}/{id}",
        }));
        let time = NOW.to_string();
        let signature = hex_of(&mac(&key, &[time.as_bytes(), b"/", &body, b"/", id.as_bytes()]));
        let pairs = [("x-sign", signature.as_str()), ("x-time", &time), ("x-id", &id)];
        prop_assert_eq!(judge(&own, &[&key], &pairs, &body, NOW), Ok(()));
        prop_assume!(other != body && other != key);
        prop_assert_eq!(judge(&own, &[&key], &pairs, &other, NOW), Err(Refused::WrongSignature));
        // Keys that differ in zeros at their end are the same to HMAC.
        let is_same = |other: &[u8]| {
            let end = |key: &[u8]| key.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            key[..end(&key)] == other[..end(other)]
        };
        prop_assume!(!is_same(&other));
        prop_assert_eq!(judge(&own, &[&other], &pairs, &body, NOW), Err(Refused::WrongSignature));
    }
}
