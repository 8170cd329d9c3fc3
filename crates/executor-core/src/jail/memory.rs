//! Steps 15 and 16: the code that is there is all there will ever be.

use std::ops::Range;
use std::ptr;

use libc::{self, c_int, c_ulong, c_void, size_t};
use nix::errno::Errno;
use nix::unistd::{SysconfVar, sysconf};
use shared::wire::worker::Layers;

use super::Jail;

/// The longest vDSO so far has three pages.
const VDSO_REST_PAGES_MAX: usize = 4;

/// Step 15. Memory that was writable never becomes executable; Linux 6.3 and newer.
pub(super) fn refuse_new_code(jail: &mut Jail) {
    let refuse = || {
        let (how, unused): (c_ulong, c_ulong) = (libc::PR_MDWE_REFUSE_EXEC_GAIN.into(), 0);
        // SAFETY: the option takes one number and three that must be zero.
        Errno::result(unsafe { libc::prctl(libc::PR_SET_MDWE, how, unused, unused, unused) }).map(drop)
    };
    jail.attempt(Layers::NO_NEW_CODE, refuse);
}

/// Step 16. Executable memory can be neither unmapped nor replaced; Linux 6.10 and newer.
pub(super) fn seal_code(jail: &mut Jail, guest: Range<usize>) {
    let seal_all = || {
        let mut ranges = vec![(guest.start, guest.len())];
        // SAFETY: the callback has the type that is asked for, and gets back the pointer to
        // `ranges`, which nobody else uses until the call returns.
        unsafe { libc::dl_iterate_phdr(Some(collect), ptr::from_mut(&mut ranges).cast()) };
        let page = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|size| usize::try_from(size).ok());
        let page = page.ok_or(Errno::EINVAL)?;
        ranges.iter().filter(|(_, len)| *len > 0).try_for_each(|(start, len)| seal(page, *start, *len))
    };
    jail.attempt(Layers::SEALED_CODE, seal_all);
}

fn seal(page: usize, start: usize, len: usize) -> Result<(), Errno> {
    let first = start / page * page;
    let bytes = (start + len).next_multiple_of(page) - first;
    let whole = |more: usize| mseal(first, bytes + more * page);
    match whole(0) {
        // A mapping that cannot be divided: the vDSO, whose last pages are no part of the segment on aarch64. What
        // is too long would take in a part of the next mapping, or a gap, so the first length that fits is right.
        Err(Errno::EINVAL) => {
            (1..=VDSO_REST_PAGES_MAX).find_map(|more| whole(more).ok()).ok_or(Errno::EINVAL)
        }
        sealed => sealed,
    }
}

fn mseal(first: usize, bytes: usize) -> Result<(), Errno> {
    // SAFETY: sealing changes no byte and no access right. That the memory is never unmapped is
    // wanted: it is this program's code, and the guest's, which the sandbox never lets go.
    Errno::result(unsafe { libc::syscall(libc::SYS_mseal, first, bytes, 0_usize) }).map(drop)
}

/// Adds the executable segments of one loaded object, be it the program, a library or the vDSO.
unsafe extern "C" fn collect(info: *mut libc::dl_phdr_info, _: size_t, ranges: *mut c_void) -> c_int {
    // SAFETY: `dl_iterate_phdr` passes a valid description, and the pointer it was given, which is
    // that of `seal_code`'s vector.
    let (info, ranges) = unsafe { (&*info, &mut *ranges.cast::<Vec<(usize, usize)>>()) };
    // SAFETY: the description says where the object's headers are and how many.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    for header in headers.iter().filter(|header| is_code(header)) {
        // Addresses have the width of a pointer on every target this is built for.
        if let (Ok(start), Ok(len)) = (usize::try_from(header.p_vaddr), usize::try_from(header.p_memsz)) {
            ranges.push((usize::try_from(info.dlpi_addr).unwrap_or(0) + start, len));
        }
    }
    0
}

const fn is_code(header: &libc::Elf64_Phdr) -> bool {
    header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0
}
