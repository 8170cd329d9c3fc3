//! Password hashes: Argon2id, at most two at a time, so that a flood of logins can take neither
//! the memory nor the processors of a small machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Params, PasswordHasher, PasswordVerifier, Version};
use secrecy::{ExposeSecret, SecretString};
use shared::limits::PASSWORD_BYTES_MAX;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::argon::Hasher;
use super::hashers::{Hashers, Lost};

/// OWASP's first choice for Argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Hashes computed at the same time.
const RUNNING_MAX: usize = 2;
/// Callers that wait for their turn; the next one is sent away.
const WAITING_MAX: usize = 16;
/// NIST SP 800-63B and OWASP ASVS: fewer can be guessed.
const PASSWORD_CHARS_MIN: usize = 8;
/// Guesses that a new password must outlast, as zxcvbn counts them: it knows the passwords that are
/// used most, names, words, dates and rows of keys. The throttle lets through five guesses a minute,
/// which are 2.6 million in a year.
const GUESSES_MIN: u64 = 2_600_000;
/// What a password is compared with when there is no such account, so that the answer takes as
/// long as when there is. No password has this hash.
const NOBODYS_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$cGljbG91ZCBub2JvZHkhIQ\
                            $AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Too many people are waiting for a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being checked")]
pub(crate) struct Busy;

/// Why a new password was not hashed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    #[error("too many passwords are being checked")]
    Busy,
    #[error("a password has 1 to {PASSWORD_BYTES_MAX} bytes")]
    Length,
    #[error("a new password has at least {PASSWORD_CHARS_MIN} characters")]
    Short,
    #[error(
        "the password is one of those that are guessed first: a well-known one, a word, a name, a date or a row \
         of keys; several words that have nothing to do with each other are better"
    )]
    Common,
    #[error("the password could not be hashed: {0}")]
    Hash(argon2::password_hash::Error),
}

/// What came of comparing a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Wrong,
    Right,
    /// Right, and the stored hash is of older parameters: this is the new one.
    RightRehashed(String),
}

/// Hashes and compares passwords.
#[derive(Debug)]
pub(crate) struct Passwords {
    running: Arc<Semaphore>,
    hashers: Hashers,
    /// Those that wait and those that run.
    present: AtomicUsize,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            running: Arc::new(Semaphore::new(RUNNING_MAX)),
            hashers: Hashers::new(RUNNING_MAX),
            present: AtomicUsize::new(0),
        }
    }
}

impl Passwords {
    pub(crate) async fn hash(&self, password: SecretString) -> Result<String, HashError> {
        let len = password.expose_secret().len();
        if len == 0 || len > PASSWORD_BYTES_MAX {
            return Err(HashError::Length);
        }
        let hashed = self
            .on_turn(move || hash_now(password.expose_secret().as_bytes()))
            .await
            .map_err(|Busy| HashError::Busy)?;
        hashed.map_err(HashError::Hash)
    }

    /// Hashes a password that somebody of this name chose, who is a person or a user of an app.
    pub(crate) async fn hash_new(&self, password: SecretString, username: &str) -> Result<String, HashError> {
        let text = password.expose_secret();
        if text.chars().count() < PASSWORD_CHARS_MIN {
            return Err(HashError::Short);
        }
        // Before it is looked at: a megabyte would take long.
        if text.len() <= PASSWORD_BYTES_MAX && is_common(text, username) {
            return Err(HashError::Common);
        }
        self.hash(password).await
    }

    /// Compares a password with a stored hash; without one, it is wrong after the same work.
    pub(crate) async fn verify(
        &self,
        password: SecretString,
        stored: Option<String>,
    ) -> Result<Verdict, Busy> {
        self.on_turn(move || verify_now(password.expose_secret().as_bytes(), stored.as_deref())).await
    }

    async fn on_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let _place = Place::take(&self.present)?;
        let permit = Arc::clone(&self.running).acquire_owned().await.map_err(|_| Busy)?;
        // The permit goes with the work: a caller that leaves does not make it cheaper.
        let run = move |_held: OwnedSemaphorePermit| work();
        self.hashers.run(move || run(permit)).await.map_err(|Lost| Busy)
    }
}

/// A place among those that wait or run, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(present: &'a AtomicUsize) -> Result<Self, Busy> {
        let place = Self(present);
        if present.fetch_add(1, Ordering::AcqRel) >= WAITING_MAX + RUNNING_MAX {
            return Err(Busy);
        }
        Ok(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether it would be among the first guesses of somebody who knows the user's name.
fn is_common(password: &str, username: &str) -> bool {
    zxcvbn::zxcvbn(password, &[username, "picloud"]).guesses() < GUESSES_MIN
}

fn hasher() -> Hasher {
    let params =
        Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the parameters are within Argon2's ranges");
    Hasher { algorithm: Algorithm::Argon2id, version: Version::V0x13, params }
}

fn hash_now(password: &[u8]) -> Result<String, argon2::password_hash::Error> {
    hasher().hash_password(password).map(|hash: PasswordHash| hash.to_string())
}

fn verify_now(password: &[u8], stored: Option<&str>) -> Verdict {
    let password = &password[..password.len().min(PASSWORD_BYTES_MAX + 1)];
    let is_possible = stored.is_some() && !password.is_empty() && password.len() <= PASSWORD_BYTES_MAX;
    let stored = stored.unwrap_or(NOBODYS_HASH);
    let is_same =
        PasswordHash::new(stored).is_ok_and(|stored| hasher().verify_password(password, &stored).is_ok());
    if !is_same || !is_possible {
        return Verdict::Wrong;
    }
    let is_current = PasswordHash::new(stored)
        .ok()
        .and_then(|hash| Params::try_from(&hash).ok())
        .is_some_and(|p| (p.m_cost(), p.t_cost(), p.p_cost()) == (MEMORY_KIB, PASSES, LANES));
    if is_current {
        return Verdict::Right;
    }
    hash_now(password).map_or(Verdict::Right, Verdict::RightRehashed)
}

#[cfg(test)]
mod tests {
    use argon2::Argon2;

    use super::*;

    #[test]
    fn a_password_matches_its_own_hash_only() {
        let hash = hash_now(b"correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_eq!(verify_now(b"correct horse", Some(&hash)), Verdict::Right);
        assert_eq!(verify_now(b"correct hors", Some(&hash)), Verdict::Wrong);
        assert_ne!(hash, hash_now(b"correct horse").unwrap(), "the salt is new each time");
    }

    #[test]
    fn nobodys_hash_is_well_formed_so_that_comparing_with_it_is_work() {
        let hash = PasswordHash::new(NOBODYS_HASH).unwrap();
        let params = Params::try_from(&hash).unwrap();
        assert_eq!(params.m_cost(), MEMORY_KIB);
        assert!(hash.hash.is_some() && hash.salt.is_some());
        assert_eq!(verify_now(b"", None), Verdict::Wrong);
    }

    #[test]
    fn a_hash_of_older_parameters_is_made_anew() {
        let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).unwrap());
        let stored: PasswordHash = weak.hash_password(b"pw").unwrap();
        let Verdict::RightRehashed(new) = verify_now(b"pw", Some(&stored.to_string())) else {
            panic!("an old hash was kept");
        };
        assert_eq!(verify_now(b"pw", Some(&new)), Verdict::Right);
    }

    #[test]
    fn what_is_guessed_first_is_no_password() {
        let ada = "ada.lovelace";
        for bad in [
            "password",
            "Password1",
            "12345678",
            "qwertyuiop",
            "iloveyou",
            "p@ssw0rd",
            "aaaaaaaa",
            "picloud1",
            "adalovelace",
            "ada.lovelace",
            "20011231",
            "abcdefgh",
            "letmein1",
            "trustno1",
            "football",
        ] {
            assert!(is_common(bad, ada), "{bad}");
        }
        for good in ["correct horse battery staple", "x7#kQ9!b", "Tr0ub4dour&3 of old", "ходить по кругу"]
        {
            assert!(!is_common(good, ada), "{good}");
        }
    }

    #[tokio::test]
    async fn the_nineteenth_caller_at_once_is_sent_away() {
        let passwords = Passwords::default();
        let places: Vec<_> =
            (0..WAITING_MAX + RUNNING_MAX).map(|_| Place::take(&passwords.present).unwrap()).collect();
        assert_eq!(passwords.verify("pw".into(), None).await, Err(Busy));
        drop(places);
        assert_eq!(passwords.verify("pw".into(), None).await, Ok(Verdict::Wrong));
    }

    #[tokio::test]
    async fn a_megabyte_of_password_is_refused() {
        let error = Passwords::default().hash("x".repeat(1 << 20).into()).await.unwrap_err();
        assert!(matches!(error, HashError::Length));
    }
}
