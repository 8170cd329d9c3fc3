//! The master key, which wraps every app's data key and is never in the database.

use std::fmt;
use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes of a key of XChaCha20-Poly1305.
pub(super) const KEY_BYTES: usize = 32;
/// Bytes by which a master key is told from others: enough against chance, no help in guessing it.
pub(super) const ID_BYTES: usize = 8;

/// 32 secret bytes. Shown as its id, never as itself.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey(Zeroizing<[u8; KEY_BYTES]>);

/// A text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret key is 32 bytes in base64, as `openssl rand -base64 32` prints it")]
pub struct InvalidKey;

impl MasterKey {
    /// A new one, from the system's source of chance.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *key)?;
        Ok(Self(key))
    }

    pub fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| InvalidKey)?);
        let key: [u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_| InvalidKey)?;
        Ok(Self(Zeroizing::new(key)))
    }

    /// For the one file where it is kept.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(*self.0))
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Tells this key from others without telling the key.
    pub(super) fn id(&self) -> [u8; ID_BYTES] {
        let digest = Sha256::new().chain_update(b"picloud/v1 master key id").chain_update(*self.0).finalize();
        std::array::from_fn(|index| digest[index])
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", crate::audit::hex_text(&self.id()))
    }
}

/// Where the master key is kept, if it is we who keep it.
pub trait KeyKeeper: Send + Sync + fmt::Debug {
    /// Keeps a new key beside the current one: until the database has changed over, either may be
    /// the one that opens it.
    fn stage(&self, key: &MasterKey) -> io::Result<()>;
    /// Makes this key, which was staged, the only one. Does nothing when it is that already; where it is not kept at
    /// all any more, it is from now on.
    fn settle(&self, key: &MasterKey) -> io::Result<()>;
}

/// The master key and what became of the last change of it.
#[derive(Debug, Clone)]
pub struct MasterKeys {
    pub current: MasterKey,
    /// A key that was staged when the process ended.
    pub staged: Option<MasterKey>,
    /// None when the key comes from the environment, where its owner keeps it.
    pub keeper: Option<Arc<dyn KeyKeeper>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written_and_never_shown() {
        let key = MasterKey::generate().unwrap();
        let text = key.to_base64();
        assert!(MasterKey::from_base64(&format!(" {}\n", *text)).unwrap() == key);
        assert!(!format!("{key:?}").contains(text.as_str()));
        for bad in ["", "AAAA", "not base64", &"A".repeat(44)] {
            assert_eq!(MasterKey::from_base64(bad).unwrap_err(), InvalidKey, "{bad}");
        }
    }
}
