//! Argon2 in memory that a thread keeps until it is told to give it back, and that then really goes back
//! to the system. Each hash takes 19 MiB; asked for and given back each time, aligned as Argon2 wants it,
//! they left holes in the allocator's heap that later ones did not fit into, and the process kept 330 MiB
//! more after a hundred logins (measured).

use std::cell::RefCell;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::password_hash::{CustomizedPasswordHasher, Error, PasswordHasher};
use argon2::{Algorithm, Argon2, Block, Params, Version};

/// Blocks that are asked for, whatever a hash takes. glibc maps what is over 32 MiB for itself, whatever
/// has been given back before, and unmaps it when it is freed (mallopt(3), `M_MMAP_THRESHOLD`); smaller
/// blocks may come from a heap, which cannot shrink below what is still used at its end. What is never
/// touched takes address space, not memory.
const BLOCKS_MIN: usize = (33 << 20) / Block::SIZE;

thread_local! {
    static MEMORY: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// Gives back the memory that this thread keeps for its next hash.
pub(super) fn give_memory_back() {
    MEMORY.take();
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
            let blocks = params.block_count();
            if blocks > memory.capacity() {
                *memory = Vec::with_capacity(blocks.max(BLOCKS_MIN));
            }
            memory.resize(blocks, Block::default());
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
    fn what_a_thread_gives_back_is_the_systems_again_also_after_a_storm() {
        const HASH_KIB: u32 = 19_456;
        let storm: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| {
                    hash(HASH_KIB);
                    give_memory_back();
                    hash(HASH_KIB);
                })
            })
            .collect();
        storm.into_iter().for_each(|thread| thread.join().unwrap());

        hash(HASH_KIB);
        let kept = MEMORY.with_borrow(|memory| memory.as_ptr().addr());
        assert!(is_mapped(kept), "the next hash finds memory");
        give_memory_back();
        assert!(!is_mapped(kept), "nothing stays in a heap");
    }

    fn hash(memory_kib: u32) {
        let params = Params::new(memory_kib, 1, 1, None).unwrap();
        let hasher = Hasher { algorithm: Algorithm::Argon2id, version: Version::V0x13, params };
        let _: PasswordHash = hasher.hash_password_with_salt(b"pw", b"sixteen bytes of").unwrap();
    }

    fn is_mapped(address: usize) -> bool {
        std::fs::read_to_string("/proc/self/maps").unwrap().lines().any(|line| {
            let (start, rest) = line.split_once('-').unwrap();
            let end = rest.split(' ').next().unwrap();
            let number = |hex| usize::from_str_radix(hex, 16).unwrap();
            (number(start)..number(end)).contains(&address)
        })
    }

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
