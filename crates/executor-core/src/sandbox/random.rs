//! What the guest's `entropy` import answers: bytes that only the execution's seed decides.

use sha2::{Digest, Sha256};

/// SHA-256 in counter mode: the n-th block is the hash of seed and n. What a script has seen of it
/// does not tell what comes next, so tokens drawn from it are safe to use.
#[derive(Debug, Default)]
pub(crate) struct SeededRandom {
    seed: [u8; 16],
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl SeededRandom {
    pub(crate) fn new(seed: [u8; 16]) -> Self {
        Self { seed, counter: 0, block: [0; 32], used: 32 }
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.used == self.block.len() {
                let block = Sha256::new().chain_update(self.seed).chain_update(self.counter.to_le_bytes());
                self.block = block.finalize().into();
                self.counter += 1;
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_everything() {
        let draw = |seed: u8, sizes: &[usize]| {
            let mut random = SeededRandom::new([seed; 16]);
            let mut all = Vec::new();
            for &size in sizes {
                let mut bytes = vec![0; size];
                random.fill(&mut bytes);
                all.extend(bytes);
            }
            all
        };
        assert_eq!(draw(1, &[100]), draw(1, &[1, 40, 59]));
        assert_ne!(draw(1, &[32]), draw(2, &[32]));
    }
}
