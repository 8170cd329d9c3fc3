//! Contents of files.

use std::io::Read;

/// What is repeated: more than any buffer on the way.
const NOISE_BYTES: usize = 1 << 20;

/// Bytes without end that no disk makes fewer of.
pub(crate) fn noise() -> impl Read {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let block: Vec<u8> = std::iter::repeat_with(|| {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(NOISE_BYTES / 8)
    .flatten()
    .collect();
    Noise { block, at: 0 }
}

/// A block, again and again.
struct Noise {
    block: Vec<u8>,
    at: usize,
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = (&self.block[self.at..]).read(buffer)?;
        self.at = (self.at + count) % self.block.len();
        Ok(count)
    }
}
