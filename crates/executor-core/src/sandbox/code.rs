//! Makes the guest's code executable where it lies.

use std::ops::Range;

use nix::errno::Errno;
use wasmtime::{CustomCodeMemory, Result};

use super::guard::page_bytes;
use super::huge;

/// Code that is part of this executable, or that the parent published. The engine would copy it: 14 MB for each
/// worker.
#[derive(Debug)]
pub(super) struct InPlace {
    /// The huge pages it was published on.
    published: Option<Range<usize>>,
}

impl InPlace {
    pub(super) const fn new(published: Option<Range<usize>>) -> Self {
        Self { published }
    }

    /// The addresses that become executable with this code. Where it lies on huge pages, all of those that it has a
    /// part of: the kernel takes a huge page apart whose parts have different rights. What comes to it that way is
    /// the same file's, and nobody can write to it either.
    pub(super) fn executable(&self, code: &Range<usize>) -> Range<usize> {
        match &self.published {
            Some(all) if all.start <= code.start && code.end <= all.end => huge::whole(code),
            _ => code.clone(),
        }
    }
}

impl CustomCodeMemory for InPlace {
    fn required_alignment(&self) -> usize {
        page_bytes()
    }

    fn publish_executable(&self, code: *const u8, len: usize) -> Result<()> {
        let pages = self.executable(&(code.addr()..code.addr() + len));
        let start = code.with_addr(pages.start).cast_mut().cast();
        // SAFETY: whole pages of constants that nothing writes. They stay readable, and what they hold is
        // the guest's code and the rest of its file. The kernel makes instruction caches coherent when it maps a
        // file's pages.
        let done = unsafe { libc::mprotect(start, pages.len(), libc::PROT_READ | libc::PROT_EXEC) };
        Ok(Errno::result(done).map(drop)?)
    }

    /// Nothing: another module of the same code may still run, and code that is not run does no harm.
    fn unpublish_executable(&self, _: *const u8, _: usize) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn code_on_huge_pages_becomes_executable_by_whole_ones() {
        let memory = InPlace::new(Some(4 * MIB..10 * MIB));
        assert_eq!(memory.executable(&(4 * MIB + 4096..7 * MIB + 5)), 4 * MIB..8 * MIB);
        assert_eq!(memory.executable(&(6 * MIB..8 * MIB)), 6 * MIB..8 * MIB);
    }

    #[test]
    fn nothing_else_becomes_executable_with_code_that_lies_elsewhere() {
        let elsewhere = 9 * MIB + 4096..11 * MIB + 4096;
        assert_eq!(InPlace::new(Some(4 * MIB..10 * MIB)).executable(&elsewhere), elsewhere);
        assert_eq!(InPlace::new(None).executable(&elsewhere), elsewhere);
    }
}
