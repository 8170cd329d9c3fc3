//! Signed requests for tests. The signatures are made here with the crate `hmac`, as a sender would.

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::events::triggers::webhook::WebhookConfig;
use crate::events::triggers::{Kind, TriggerConfig};

pub(super) fn config(value: &Value) -> WebhookConfig {
    match TriggerConfig::parse(Kind::Webhook, value).unwrap() {
        TriggerConfig::Webhook(config) => config,
        other => panic!("{other:?}"),
    }
}

pub(super) fn provider(name: &str) -> WebhookConfig {
    config(&json!({ "provider": name, "secrets": ["A"] }))
}

pub(super) fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

pub(super) fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().fold(mac, |mac, part| mac.chain_update(part)).finalize().into_bytes().to_vec()
}

pub(super) fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
