//! API keys: `pic_`, 256 random bits and a checksum, all in hexadecimal, so that a double click
//! takes the whole key, a scanner for leaked secrets knows one when it sees it, and a mistyped one
//! is refused without asking the database.

use sha2::{Digest, Sha256};

use super::sessions::NoEntropy;
use crate::audit::hex_text;

pub(super) const PREFIX: &str = "pic_";
const SECRET_BYTES: usize = 32;
/// Enough that one typing error in four thousand million goes to the database.
const CHECKSUM_BYTES: usize = 4;
/// The prefix and four digits: tells keys apart, and leaves 240 bits to guess.
const HINT_CHARS: usize = 8;

/// A new key.
pub(crate) struct NewKey {
    /// Shown once.
    pub(crate) key: String,
    pub(crate) hint: String,
    /// What is stored of it.
    pub(crate) hash: [u8; 32],
}

pub(crate) fn generate() -> Result<NewKey, NoEntropy> {
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret).map_err(NoEntropy)?;
    let key = format!("{PREFIX}{}{}", hex_text(&secret), hex_text(&checksum(&secret)));
    Ok(NewKey { hint: key[..HINT_CHARS].to_owned(), key, hash: Sha256::digest(secret).into() })
}

/// The stored form of a key; nothing for a text that no key can be.
pub(super) fn stored_form(key: &str) -> Option<[u8; 32]> {
    let digits = key.strip_prefix(PREFIX)?.as_bytes();
    if digits.len() != 2 * (SECRET_BYTES + CHECKSUM_BYTES) {
        return None;
    }
    let bytes: Vec<u8> = digits.chunks_exact(2).map(byte).collect::<Option<_>>()?;
    let (secret, sum) = bytes.split_at(SECRET_BYTES);
    (checksum(secret) == sum).then(|| Sha256::digest(secret).into())
}

fn checksum(secret: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::new().chain_update(PREFIX).chain_update(secret).finalize();
    std::array::from_fn(|at| digest[at])
}

fn byte(digits: &[u8]) -> Option<u8> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    Some((value(digits[0])? << 4) | value(digits[1])?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_leads_to_what_is_stored_of_it() {
        let NewKey { key, hint, hash } = generate().unwrap();
        assert_eq!(stored_form(&key), Some(hash));
        assert!(key.starts_with(&hint) && key.len() == 76, "{key}");
        assert_ne!(generate().unwrap().key, key);
    }

    proptest! {
        #[test]
        fn any_text_is_a_key_or_leads_nowhere(text: String, digits in "pic_[0-9a-f]{70,74}") {
            // That chance makes a checksum right has a probability of one in four thousand million.
            prop_assert_eq!(stored_form(&text), None);
            prop_assert_eq!(stored_form(&digits), None);
        }
    }

    #[test]
    fn a_mistyped_key_leads_nowhere() {
        let key = generate().unwrap().key;
        for at in PREFIX.len()..key.len() {
            let mut typed = key.clone().into_bytes();
            typed[at] = if typed[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(stored_form(str::from_utf8(&typed).unwrap()), None, "{at}");
        }
        for text in ["", "pic_", "pic_é", &key.to_uppercase(), &key[..75], &format!("{key}0")] {
            assert_eq!(stored_form(text), None, "{text}");
        }
    }
}
