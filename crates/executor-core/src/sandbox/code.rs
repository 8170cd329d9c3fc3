//! Makes the guest's code executable where it lies.

use nix::errno::Errno;
use wasmtime::{CustomCodeMemory, Result};

use super::guard::page_bytes;

/// Code that is part of this executable. The engine would copy it: 14 MB for each worker.
pub(super) struct InPlace;

impl CustomCodeMemory for InPlace {
    fn required_alignment(&self) -> usize {
        page_bytes()
    }

    fn publish_executable(&self, code: *const u8, len: usize) -> Result<()> {
        // SAFETY: whole pages of constants that nothing writes. They stay readable, and what they hold is
        // the guest's code. The kernel makes instruction caches coherent when it maps a file's pages.
        let done = unsafe { libc::mprotect(code.cast_mut().cast(), len, libc::PROT_READ | libc::PROT_EXEC) };
        Ok(Errno::result(done).map(drop)?)
    }

    /// Nothing: another module of the same code may still run, and code that is not run does no harm.
    fn unpublish_executable(&self, _: *const u8, _: usize) -> Result<()> {
        Ok(())
    }
}
