//! The form of what is sealed: XChaCha20-Poly1305 under a random nonce of 192 bits, which never meets
//! itself however much is sealed. What is authenticated besides says where the value belongs, so that
//! it opens nowhere else: not in another row, app or table, and not under another key.
//!
//! `1 | key version (4) | nonce (24) | ciphertext and tag`

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use shared::id::AppId;
use zeroize::Zeroizing;

use super::master::KEY_BYTES;

/// The first byte of what is sealed in this form.
const FORMAT: u8 = 1;
const VERSION_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;
const HEAD_BYTES: usize = 1 + VERSION_BYTES + NONCE_BYTES;
const TAG_BYTES: usize = 16;
/// What an empty value is when it is sealed.
pub(crate) const SEALED_BYTES_MIN: usize = HEAD_BYTES + TAG_BYTES;

pub(super) type Key = Zeroizing<[u8; KEY_BYTES]>;

/// Where a sealed value belongs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) app: AppId,
    /// The table that holds it.
    pub(crate) table: &'static str,
    /// What tells it from others of the app in that table.
    pub(crate) name: &'a str,
}

/// A value that cannot be opened: changed, moved, or sealed under a key that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value cannot be opened")]
pub(crate) struct Unopenable;

impl Place<'_> {
    /// Fields with their lengths, so that no two places make the same bytes.
    fn associated(&self, version: i32) -> Vec<u8> {
        let app = self.app.as_uuid();
        let version = version.to_be_bytes();
        let fields: [&[u8]; 5] =
            [b"picloud/v1", self.table.as_bytes(), app.as_bytes(), self.name.as_bytes(), &version];
        let mut bytes = Vec::new();
        for field in fields {
            bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
            bytes.extend_from_slice(field);
        }
        bytes
    }
}

pub(super) fn seal(
    key: &Key,
    version: i32,
    place: &Place<'_>,
    plain: &[u8],
) -> Result<Vec<u8>, getrandom::Error> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce)?;
    let aad = place.associated(version);
    let cipher = XChaCha20Poly1305::new((&**key).into());
    let ciphertext = cipher
        .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: &aad })
        .expect("no value is as long as the cipher's limit of 256 GiB");
    let mut sealed = Vec::with_capacity(HEAD_BYTES + ciphertext.len());
    sealed.push(FORMAT);
    sealed.extend_from_slice(&version.to_be_bytes());
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(&ciphertext);
    Ok(sealed)
}

/// The version of the key under which a value is sealed.
pub(super) fn version(sealed: &[u8]) -> Result<i32, Unopenable> {
    match sealed.split_first() {
        Some((&FORMAT, rest)) if sealed.len() >= HEAD_BYTES => {
            Ok(i32::from_be_bytes(std::array::from_fn(|index| rest[index])))
        }
        _ => Err(Unopenable),
    }
}

pub(super) fn open(key: &Key, place: &Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopenable> {
    let version = version(sealed)?;
    let nonce: [u8; NONCE_BYTES] = std::array::from_fn(|index| sealed[1 + VERSION_BYTES + index]);
    let payload = Payload { msg: &sealed[HEAD_BYTES..], aad: &place.associated(version) };
    let cipher = XChaCha20Poly1305::new((&**key).into());
    cipher.decrypt(&XNonce::from(nonce), payload).map(Zeroizing::new).map_err(|_| Unopenable)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; KEY_BYTES] = [7; KEY_BYTES];

    fn place(app: AppId, name: &str) -> Place<'_> {
        Place { app, table: "secrets", name }
    }

    #[test]
    fn a_value_opens_where_it_belongs_and_nowhere_else() {
        let (app, key) = (AppId::new(), Key::new(KEY));
        let sealed = seal(&key, 1, &place(app, "token"), b"value").unwrap();
        assert_eq!(open(&key, &place(app, "token"), &sealed).unwrap().as_slice(), b"value");
        assert!(!sealed.windows(5).any(|window| window == b"value"));
        for elsewhere in [
            place(app, "other"),
            place(AppId::new(), "token"),
            Place { table: "triggers", ..place(app, "token") },
        ] {
            assert_eq!(open(&key, &elsewhere, &sealed), Err(Unopenable));
        }
        assert_eq!(open(&Key::new([8; KEY_BYTES]), &place(app, "token"), &sealed), Err(Unopenable));
    }

    #[test]
    fn the_same_value_is_sealed_differently_each_time() {
        let (app, key) = (AppId::new(), Key::new(KEY));
        let seal = || seal(&key, 1, &place(app, "a"), b"value").unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn a_key_version_cannot_be_passed_off_as_another() {
        let (app, key) = (AppId::new(), Key::new(KEY));
        let mut sealed = seal(&key, 1, &place(app, "a"), b"value").unwrap();
        sealed[4] = 2;
        assert_eq!(version(&sealed), Ok(2));
        assert_eq!(open(&key, &place(app, "a"), &sealed), Err(Unopenable));
    }

    proptest! {
        #[test]
        fn no_changed_byte_goes_unnoticed(value: Vec<u8>, at: prop::sample::Index, flip in 1u8..) {
            let (app, key) = (AppId::new(), Key::new(KEY));
            let mut sealed = seal(&key, 3, &place(app, "a"), &value).unwrap();
            let at = at.index(sealed.len());
            sealed[at] ^= flip;
            prop_assert!(open(&key, &place(app, "a"), &sealed).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(sealed: Vec<u8>) {
            prop_assert!(open(&Key::new(KEY), &place(AppId::new(), "a"), &sealed).is_err());
        }
    }
}
