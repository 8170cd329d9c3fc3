//! The guest's code on huge pages, once for all workers.
//!
//! A request runs through code that is spread over megabytes: with pages of 4 KiB a processor that has just run
//! another process looks up a hundred addresses before it is through, which in a virtual machine takes as long as
//! the script. So the parent puts the code into a file in memory, has the kernel make huge pages of it
//! (`MADV_COLLAPSE`, Linux 6.1; it needs no setting of the machine's), seals it, and gives it to what workers are
//! copies of, or to each worker. Where that is refused, workers run the code where it lies in the executable.
//!
//! All workers of a parent have it at the same address, which the parent has drawn: a processor foretells where a
//! branch goes by the branch's address, and so need not learn the same code anew for each worker (ADR 36).

use std::ffi::CStr;
use std::num::NonZero;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;

use super::guard::page_bytes;

/// Of processors with pages of 4 KiB. Where huge pages are larger, as with pages of 16 KiB, the code is too small
/// for one, and the kernel refuses.
const HUGE_BYTES: usize = 2 << 20;
const SMALL_BYTES: usize = 4 << 10;
/// What the file is called in `/proc`.
const NAME: &CStr = c"picloud-guest";

/// In the parent: a sealed file of `code` on huge pages.
pub(super) fn publish(code: &[u8]) -> Result<OwnedFd, Errno> {
    let size = code.len().next_multiple_of(HUGE_BYTES);
    let file = memfd_create(NAME, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    ftruncate(&file, i64::try_from(size).map_err(|_| Errno::EFBIG)?)?;
    let place = Place::reserve(size)?;
    let start = place.map(&file, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED)?;
    // SAFETY: the mapping is as long as the code or longer, can be written, and nobody else knows of it.
    unsafe { start.cast::<u8>().copy_from_nonoverlapping(NonNull::from(code).cast(), code.len()) };
    // SAFETY: the range is the whole mapping; which pages hold its bytes changes none of them.
    let collapsed = unsafe { libc::madvise(start.as_ptr(), size, libc::MADV_COLLAPSE) };
    let collapsed = Errno::result(collapsed).map(drop);
    // The kernel does not seal what can still be written to.
    drop(place);
    collapsed?;
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

/// The huge pages that these addresses have a part of.
pub(super) const fn whole(addresses: &Range<usize>) -> Range<usize> {
    addresses.start / HUGE_BYTES * HUGE_BYTES..addresses.end.next_multiple_of(HUGE_BYTES)
}

/// In a worker: the `len` bytes of code that the parent published, with the rest of their last huge page, to the end
/// of the process; at the address that the parent asks for, or anywhere where that is taken.
pub(super) fn map(file: &OwnedFd, len: usize, at: Option<NonZero<usize>>) -> Result<NonNull<[u8]>, Errno> {
    let size = len.next_multiple_of(HUGE_BYTES);
    if usize::try_from(fstat(file)?.st_size) != Ok(size) {
        return Err(Errno::EINVAL);
    }
    let place = at.and_then(|at| Place::reserve_at(at, size).ok());
    let place = place.map_or_else(|| Place::reserve(size), Ok)?;
    // Private, since a shared mapping of what is sealed is refused before Linux 6.7.
    let start = place.map(file, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE)?;
    std::mem::forget(place);
    Ok(NonNull::slice_from_raw_parts(start.cast(), size))
}

/// Puts a copy on huge pages in the place of code that is running: of what lies on whole ones.
pub(crate) fn move_to_huge_pages(code: &Range<usize>) -> Result<(), Errno> {
    let from = code.start.next_multiple_of(HUGE_BYTES);
    let size = (code.end / HUGE_BYTES * HUGE_BYTES).saturating_sub(from);
    // With larger pages huge ones are larger too, and this would be a copy for nothing.
    if size == 0 || page_bytes() != SMALL_BYTES {
        return Ok(());
    }
    let place = Place::reserve(size)?;
    let copy = place.writable()?;
    let code = NonNull::new(ptr::with_exposed_provenance_mut::<u8>(from)).ok_or(Errno::EINVAL)?;
    // SAFETY: the copy is as long, can be written, and nobody else knows of it. The kernel makes instruction caches
    // coherent when it makes it executable, after the last write.
    unsafe {
        copy.cast::<u8>().copy_from_nonoverlapping(code, size);
        Errno::result(libc::madvise(copy.as_ptr(), size, libc::MADV_COLLAPSE))?;
        Errno::result(libc::mprotect(copy.as_ptr(), size, libc::PROT_READ | libc::PROT_EXEC))?;
    }
    place.take_place_of(code.cast())
}

/// Addresses that are kept free for a mapping that begins at a huge page.
struct Place {
    start: NonNull<libc::c_void>,
    len: usize,
    /// Of the mapping, within it.
    offset: usize,
    size: usize,
}

impl Place {
    fn reserve(size: usize) -> Result<Self, Errno> {
        let len = size + HUGE_BYTES;
        let length = NonZero::new(len).ok_or(Errno::EINVAL)?;
        // SAFETY: new addresses, that nothing can be read from.
        let start = unsafe { mmap_anonymous(None, length, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE)? };
        let offset = start.addr().get().next_multiple_of(HUGE_BYTES) - start.addr().get();
        Ok(Self { start, len, offset, size })
    }

    /// The same where somebody else has chosen. An error where that is no place for huge pages, or not free.
    fn reserve_at(at: NonZero<usize>, size: usize) -> Result<Self, Errno> {
        let length = NonZero::new(size).ok_or(Errno::EINVAL)?;
        if !at.get().is_multiple_of(HUGE_BYTES) {
            return Err(Errno::EINVAL);
        }
        let kind = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED_NOREPLACE;
        // SAFETY: new addresses, that nothing can be read from; nothing that is there is replaced.
        let start = unsafe { mmap_anonymous(Some(at), length, ProtFlags::PROT_NONE, kind)? };
        let place = Self { start, len: size, offset: 0, size };
        // Kernels before 4.17 take the address for a wish.
        if start.addr() == at { Ok(place) } else { Err(Errno::EEXIST) }
    }

    /// Memory of nobody else's, wanted on huge pages.
    fn writable(&self) -> Result<NonNull<libc::c_void>, Errno> {
        let start = self.start.as_ptr().wrapping_byte_add(self.offset);
        // SAFETY: it is a part of what was reserved, of which nothing is in use.
        unsafe {
            Errno::result(libc::mprotect(start, self.size, libc::PROT_READ | libc::PROT_WRITE))?;
            Errno::result(libc::madvise(start, self.size, libc::MADV_HUGEPAGE))?;
        }
        NonNull::new(start).ok_or(Errno::EINVAL)
    }

    /// Moves the mapping to other addresses, in place of what is there, and gives back the rest of its own.
    fn take_place_of(self, other: NonNull<libc::c_void>) -> Result<(), Errno> {
        let mapping = self.start.as_ptr().wrapping_byte_add(self.offset);
        let how = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: the caller's code with the same bytes and the same rights, in one call under the lock of all this
        // process's mappings: whoever runs there meanwhile waits at most. It can fail only for want of memory for the
        // kernel's own tables, and then there may be no code left to say so.
        let moved = unsafe { libc::mremap(mapping, self.size, self.size, how, other.as_ptr()) };
        if moved == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        // What lay between belongs to whoever maps it next.
        let (before, end) = (self.offset, self.offset + self.size);
        let ends =
            [(self.start.as_ptr(), before), (self.start.as_ptr().wrapping_byte_add(end), self.len - end)];
        std::mem::forget(self);
        for (start, len) in ends.into_iter().filter(|(_, len)| *len > 0) {
            // SAFETY: these are the place's still, and nobody keeps an address of them.
            Errno::result(unsafe { libc::munmap(start, len) })?;
        }
        Ok(())
    }

    fn map(&self, file: &OwnedFd, access: ProtFlags, kind: MapFlags) -> Result<NonNull<libc::c_void>, Errno> {
        let (at, size) = (self.start.addr().checked_add(self.offset), NonZero::new(self.size));
        let (at, size) = at.zip(size).ok_or(Errno::EINVAL)?;
        // SAFETY: it replaces a part of what was reserved, of which nothing is in use.
        unsafe { mmap(Some(at), size, access, kind | MapFlags::MAP_FIXED, file.as_fd(), 0) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // SAFETY: all of it is this place's, and nobody keeps an address of it: `map` forgets the place that stays.
        let _ = unsafe { munmap(self.start, self.len) };
    }
}

#[cfg(test)]
mod tests {
    use nix::unistd::write;

    use super::*;

    /// Where the kernel has no huge pages for it there is nothing to test.
    fn published(code: &[u8]) -> Option<OwnedFd> {
        match publish(code) {
            Ok(file) => Some(file),
            Err(Errno::EINVAL | Errno::ENOMEM | Errno::EAGAIN) => None,
            Err(errno) => panic!("{errno}"),
        }
    }

    #[test]
    fn what_is_published_is_what_workers_map() {
        let code: Vec<u8> = (0..=250).cycle().take(HUGE_BYTES + 5).collect();
        let Some(file) = published(&code) else {
            eprintln!("SKIPPED: this kernel makes no huge pages of files in memory");
            return;
        };
        let mapped = map(&file, code.len(), None).unwrap();
        assert_eq!(mapped.cast::<u8>().addr().get() % HUGE_BYTES, 0);
        // SAFETY: mapped for reading, to the end of the process.
        let bytes = unsafe { mapped.as_ref() };
        assert!(bytes.starts_with(&code));
        assert_eq!(bytes.len() % HUGE_BYTES, 0);
        assert_eq!(
            map(&file, code.len() + HUGE_BYTES, None),
            Err(Errno::EINVAL),
            "the code of another build"
        );
    }

    #[test]
    fn code_is_where_the_parent_asks_for_it_unless_that_is_taken() {
        let Some(file) = published(b"code") else {
            eprintln!("SKIPPED: this kernel makes no huge pages of files in memory");
            return;
        };
        // Free a moment ago, as each test is a process of its own or its threads map far less than this.
        let free = Place::reserve(64 * HUGE_BYTES).unwrap();
        let at = free.start.addr().checked_add(free.offset).unwrap();
        drop(free);
        let first = map(&file, 4, Some(at)).unwrap();
        assert_eq!(first.cast::<u8>().addr(), at);
        let second = map(&file, 4, Some(at)).unwrap();
        assert_ne!(second.cast::<u8>().addr(), at, "what is there is not replaced");
        let crooked = map(&file, 4, Some(at.checked_add(4096).unwrap())).unwrap();
        assert_eq!(crooked.cast::<u8>().addr().get() % HUGE_BYTES, 0);
        // SAFETY: mapped for reading, to the end of the process.
        assert!([first, second, crooked].iter().all(|code| unsafe { code.as_ref() }.starts_with(b"code")));
    }

    #[test]
    fn attack_nobody_writes_to_what_all_workers_run() {
        let Some(file) = published(b"code") else {
            eprintln!("SKIPPED: this kernel makes no huge pages of files in memory");
            return;
        };
        assert_eq!(write(&file, b"evil"), Err(Errno::EPERM));
        assert_eq!(ftruncate(&file, 0), Err(Errno::EPERM));
        let place = Place::reserve(HUGE_BYTES).unwrap();
        let writable = place.map(&file, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
        assert_eq!(writable, Err(Errno::EPERM));
        assert_eq!(fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::empty())), Err(Errno::EPERM));
    }
}
