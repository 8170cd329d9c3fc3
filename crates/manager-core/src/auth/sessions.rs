//! Session tokens: 256 random bits for the caller, their SHA-256 for the database. A token has so
//! much entropy that a plain hash is enough, and looking it up needs no comparison in our code.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

const TOKEN_BYTES: usize = 32;
/// Tells a session's token from other secrets at a glance, for people and for secret scanners.
const PREFIX: &str = "pics_";
const INVITATION_PREFIX: &str = "pici_";

/// What an app's users are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppToken {
    /// Of a session.
    Session,
    /// Proves once that they got a message.
    Verify,
    /// Sets a new password once.
    Reset,
}

impl AppToken {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Session => "picu_",
            Self::Verify => "picv_",
            Self::Reset => "picr_",
        }
    }

    /// A new one, with what is stored of it.
    pub(crate) fn generate(self) -> Result<(String, [u8; 32]), NoEntropy> {
        generate_as(self.prefix())
    }

    /// The stored form of one; nothing for a text that cannot be one.
    pub(crate) fn stored_form(self, token: &str) -> Option<[u8; 32]> {
        stored_form_as(self.prefix(), token)
    }
}

/// The system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system gave no random bytes: {0}")]
pub(crate) struct NoEntropy(pub(super) getrandom::Error);

/// A new token of a session, with what is stored of it.
pub(super) fn generate() -> Result<(String, [u8; 32]), NoEntropy> {
    generate_as(PREFIX)
}

/// The stored form of a session's token; nothing for a text that no token can be.
pub(super) fn stored_form(token: &str) -> Option<[u8; 32]> {
    stored_form_as(PREFIX, token)
}

/// A new token of an invitation, with what is stored of it.
pub(crate) fn generate_invitation() -> Result<(String, [u8; 32]), NoEntropy> {
    generate_as(INVITATION_PREFIX)
}

/// The stored form of an invitation's token; nothing for a text that no token can be.
pub(crate) fn stored_invitation(token: &str) -> Option<[u8; 32]> {
    stored_form_as(INVITATION_PREFIX, token)
}

fn generate_as(prefix: &str) -> Result<(String, [u8; 32]), NoEntropy> {
    let mut secret = [0; TOKEN_BYTES];
    getrandom::fill(&mut secret).map_err(NoEntropy)?;
    Ok((format!("{prefix}{}", URL_SAFE_NO_PAD.encode(secret)), Sha256::digest(secret).into()))
}

fn stored_form_as(prefix: &str, token: &str) -> Option<[u8; 32]> {
    let mut secret = [0; TOKEN_BYTES];
    let len = URL_SAFE_NO_PAD.decode_slice(token.strip_prefix(prefix)?, &mut secret).ok()?;
    (len == TOKEN_BYTES).then(|| Sha256::digest(secret).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// One token has one form: with two, a list of those that are revoked could be passed by.
        #[test]
        fn any_text_is_a_token_in_its_one_form_or_leads_nowhere(text: String, body in "[A-Za-z0-9_-]{41,45}") {
            prop_assert_eq!(stored_form(&text), None);
            let token = format!("{PREFIX}{body}");
            if stored_form(&token).is_some() {
                let secret = URL_SAFE_NO_PAD.decode(&body).unwrap();
                prop_assert_eq!(&format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret)), &token);
            }
            prop_assert_eq!(stored_invitation(&token), None);
            prop_assert_eq!(AppToken::Session.stored_form(&token), None);
        }
    }

    #[test]
    fn a_token_leads_to_what_is_stored_of_it() {
        let (token, stored) = generate().unwrap();
        assert_eq!(stored_form(&token), Some(stored));
        assert_ne!(generate().unwrap().0, token);
    }

    #[test]
    fn what_is_no_token_leads_nowhere() {
        for text in ["", "pics_", "pics_AAAA", "AAAA", "pics_ÄÖ", &format!("pics_{}", "A".repeat(400))] {
            assert_eq!(stored_form(text), None, "{text}");
        }
    }
}
