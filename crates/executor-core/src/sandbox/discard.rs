//! Giving memory back to the kernel, which clears it without touching what was not used.

use nix::errno::Errno;

/// Makes a stretch of a guest's memory read as zeros. It must begin and end at page boundaries.
pub(super) fn discard(memory: &mut [u8]) -> Result<(), Errno> {
    if memory.is_empty() {
        return Ok(());
    }
    // SAFETY: the stretch is borrowed exclusively and lies within a private anonymous mapping (the
    // engine maps no file, see `config.rs`), so its pages read as zeros afterwards and nothing else
    // in the process changes. An address that is not at a page boundary is refused by the kernel.
    let done = unsafe { libc::madvise(memory.as_mut_ptr().cast(), memory.len(), libc::MADV_DONTNEED) };
    Errno::result(done).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_off_the_page_boundary_is_refused() {
        let mut memory = vec![7; 1 << 17];
        let off = 1 + memory.as_ptr().align_offset(4096);
        assert_eq!(discard(&mut memory[off..off + 4096]), Err(Errno::EINVAL));
        assert!(memory.iter().all(|&byte| byte == 7));
    }
}
