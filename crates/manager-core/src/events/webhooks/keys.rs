//! From an app's secrets to what requests are signed with.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ed25519_dalek::VerifyingKey;
use sqlx::postgres::PgConnection;
use zeroize::Zeroizing;

use crate::events::triggers::Trigger;
use crate::events::triggers::webhook::{Provider, WebhookConfig};
use crate::vault::{Vault, VaultError};
use crate::{secrets, store};

/// Before the secrets of Standard Webhooks, which are written in base64.
const STANDARD_PREFIX: &str = "whsec_";
/// Before their public keys, whose secret the sender keeps.
const PUBLIC_PREFIX: &str = "whpk_";
/// People copy keys with and without the `=` at their end.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a signature is checked with. What is the one is never the other: who knows a public key could
/// sign with it as if it were a secret.
pub(super) enum Key {
    /// For HMAC-SHA256.
    Shared(Zeroizing<Vec<u8>>),
    /// For Ed25519.
    Public(VerifyingKey),
}

/// The keys of a trigger that are set and can be used.
pub(super) async fn of_trigger(
    conn: &mut PgConnection,
    vault: &Vault,
    trigger: &Trigger,
    config: &WebhookConfig,
) -> Result<Vec<Key>, VaultError> {
    let mut keys = Vec::with_capacity(config.secrets.len());
    for secret in store::secrets::sealed_by_names(conn, trigger.app, &config.secrets).await? {
        let place = secrets::place(trigger.app, &secret.name);
        let opened = vault.unseal_row(place, &secret.sealed, &secret.key)?;
        keys.extend(of_secret(config.provider, &opened));
    }
    Ok(keys)
}

/// What a secret may mean as a key. None of them is empty: anybody can sign with that.
pub(super) fn of_secret(provider: Provider, secret: &[u8]) -> Vec<Key> {
    let text = str::from_utf8(secret).unwrap_or_default().trim();
    if provider == Provider::Standard
        && let Some(encoded) = text.strip_prefix(PUBLIC_PREFIX)
    {
        return public(encoded).into_iter().collect();
    }
    let decoded = |text: &str| LENIENT.decode(text).ok().map(Zeroizing::new);
    let keys = match (provider, text.strip_prefix(STANDARD_PREFIX)) {
        (Provider::Standard, Some(encoded)) => [decoded(encoded), None],
        // Some senders show the key without its prefix, some use any text as the key.
        (Provider::Standard, None) => [decoded(text), Some(Zeroizing::new(secret.to_vec()))],
        _ => [Some(Zeroizing::new(secret.to_vec())), None],
    };
    keys.into_iter().flatten().filter(|key| !key.is_empty()).map(Key::Shared).collect()
}

/// None for a key under which more than its owner could sign.
fn public(encoded: &str) -> Option<Key> {
    let bytes: [u8; 32] = LENIENT.decode(encoded).ok()?.try_into().ok()?;
    VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak()).map(Key::Public)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(provider: Provider, secret: &str) -> Vec<Vec<u8>> {
        let keys = of_secret(provider, secret.as_bytes()).into_iter();
        keys.map(|key| match key {
            Key::Shared(key) => key.to_vec(),
            Key::Public(key) => panic!("a public key: {:?}", key.as_bytes()),
        })
        .collect()
    }

    #[test]
    fn keys_of_standard_webhooks_are_base64_and_those_of_others_are_as_they_are() {
        assert_eq!(keys(Provider::Standard, "whsec_AAEC"), [[0, 1, 2]]);
        assert_eq!(keys(Provider::Standard, " whsec_AAECAw\n"), [[0, 1, 2, 3]]);
        assert_eq!(keys(Provider::Standard, "AAEC"), [vec![0, 1, 2], b"AAEC".to_vec()]);
        assert_eq!(keys(Provider::Standard, "any text"), [b"any text"]);
        for provider in [Provider::Github, Provider::Stripe, Provider::Hmac] {
            assert_eq!(keys(provider, "whsec_AAEC"), [b"whsec_AAEC"]);
        }
    }

    #[test]
    fn attack_an_empty_key_signs_nothing() {
        for (provider, secret) in [
            (Provider::Github, ""),
            (Provider::Standard, ""),
            (Provider::Standard, "whsec_"),
            (Provider::Standard, "whsec_\n"),
            (Provider::Standard, "whsec_=="),
            (Provider::Standard, "whsec_not base64"),
            (Provider::Standard, "whpk_"),
            (Provider::Standard, "whpk_not base64"),
            (Provider::Standard, "whpk_AAEC"),
            // The neutral element: any message has a signature that all can make.
            (Provider::Standard, "whpk_AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ] {
            assert!(keys(provider, secret).is_empty(), "{secret:?}");
        }
    }
}
