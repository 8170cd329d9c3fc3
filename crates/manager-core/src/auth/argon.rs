//! Argon2 in memory that a thread keeps. Each hash takes 19 MiB; asked for and given back each time,
//! aligned as Argon2 wants it, they left holes in the allocator's heap that later ones did not fit into,
//! and the process kept 330 MiB more after a hundred logins (measured).

use std::cell::RefCell;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::password_hash::{CustomizedPasswordHasher, Error, PasswordHasher};
use argon2::{Algorithm, Argon2, Block, Params, Version};

thread_local! {
    static MEMORY: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// Makes hashes in the memory of the thread that asks. Comparing with one comes with the trait.
pub(super) struct Hasher {
    pub(super) algorithm: Algorithm,
    pub(super) version: Version,
    pub(super) params: Params,
}

impl PasswordHasher<PasswordHash> for Hasher {
    fn hash_password_with_salt(&self, password: &[u8], salt: &[u8]) -> Result<PasswordHash, Error> {
        let Self { algorithm, version, params } = self;
        let argon = Argon2::new(*algorithm, *version, params.clone());
        let mut output = vec![0; params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN)];
        MEMORY.with_borrow_mut(|memory| {
            memory.resize(params.block_count(), Block::default());
            argon.hash_password_into_with_memory(password, salt, &mut output, memory)
        })?;
        Ok(PasswordHash {
            algorithm: algorithm.ident(),
            version: Some((*version).into()),
            params: ParamsString::try_from(params)?,
            salt: Some(Salt::new(salt)?),
            hash: Some(Output::new(&output)?),
        })
    }
}

impl CustomizedPasswordHasher<PasswordHash> for Hasher {
    type Params = Params;

    fn hash_password_customized(
        &self,
        password: &[u8],
        salt: &[u8],
        algorithm: Option<&str>,
        version: Option<u32>,
        params: Params,
    ) -> Result<PasswordHash, Error> {
        let algorithm = algorithm.map_or(Ok(self.algorithm), Algorithm::try_from)?;
        let version = version.map_or(Ok(self.version), Version::try_from)?;
        Self { algorithm, version, params }.hash_password_with_salt(password, salt)
    }
}

#[cfg(test)]
mod tests {
    use argon2::PasswordVerifier;

    use super::*;

    #[test]
    fn hashes_are_those_that_argon2_makes_by_itself() {
        for (memory_kib, passes) in [(64, 1), (19_456, 2), (64, 3)] {
            let params = Params::new(memory_kib, passes, 1, None).unwrap();
            let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
            let theirs = Argon2::new(algorithm, version, params.clone());
            let ours = Hasher { algorithm, version, params };
            let salt = b"sixteen bytes of";
            let hash = ours.hash_password_with_salt(b"pw", salt).unwrap();
            let expected: PasswordHash = theirs.hash_password_with_salt(b"pw", salt).unwrap();
            assert_eq!(hash.to_string(), expected.to_string());
            assert!(ours.verify_password(b"pw", &expected).is_ok());
            assert!(ours.verify_password(b"pq", &expected).is_err());
        }
    }
}
