//! Steps 15 and 16: the code that is there is all there will ever be.

use std::ops::Range;

use libc::c_ulong;
use nix::errno::Errno;
use nix::unistd::{SysconfVar, sysconf};
use shared::wire::worker::Layers;

use super::{Jail, segments};

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
        let page = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|size| usize::try_from(size).ok());
        let page = page.ok_or(Errno::EINVAL)?;
        let mut all = segments::executable().into_iter().chain([guest]).filter(|code| !code.is_empty());
        all.try_for_each(|code| seal(page, &code))
    };
    jail.attempt(Layers::SEALED_CODE, seal_all);
}

fn seal(page: usize, code: &Range<usize>) -> Result<(), Errno> {
    let first = code.start / page * page;
    let bytes = code.end.next_multiple_of(page) - first;
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
