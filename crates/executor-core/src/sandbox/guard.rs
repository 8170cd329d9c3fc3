//! Write protection of a guest's memory: the processor itself says which pages were written.
//!
//! Pages whose content is known are made read-only. A write to one of them faults; the handler makes
//! that page writable and lets the write go on. So a page that is still protected has the content it was
//! protected with, whatever a script did, and restoring has to look only at the others. Nothing is
//! sampled or guessed.
//!
//! Two kinds of content are known: that of the guest's initial memory, the same for every image, and,
//! once an image has been restored several times in a row, that of the image itself.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::unistd::{SysconfVar, sysconf};
use wasmtime::unix::StoreExt as _;
use wasmtime::{Memory, Store};

use super::machine::GuestState;

/// The protection of one guest's memory, by pages of the kernel's size.
pub(super) struct Guard {
    pages: Arc<Pages>,
    /// How far the far part of the stack reaches. Below, protected pages are zero; above, they are as
    /// in the guest's initial memory. Nothing is protected before it is set.
    far_stack: Option<usize>,
    /// The image whose own pages may be protected too, and how often in a row it was restored.
    image: Option<(u64, u32)>,
    /// Pages that were protected as that image has them. To another image they mean nothing.
    of_image: Box<[u64]>,
}

/// What the signal handler needs: the place and, for each page, whether it is protected.
struct Pages {
    start: usize,
    bytes: usize,
    page_bytes: usize,
    protected: Box<[AtomicU64]>,
    /// Pages of the far part of the stack. A script that recurses that deeply writes many of them, so
    /// they become writable all at once.
    far_stack: AtomicUsize,
}

impl Guard {
    /// Takes charge of a guest's memory as large as it is, nothing of which is protected yet.
    pub(super) fn new(store: &mut Store<GuestState>, memory: Memory, page_bytes: usize) -> Self {
        let bytes = memory.data_size(&*store);
        let count = bytes / page_bytes;
        let pages = Arc::new(Pages {
            start: memory.data_ptr(&*store) as usize,
            bytes,
            page_bytes,
            protected: (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            far_stack: AtomicUsize::new(0),
        });
        let handler = pages.clone();
        // SAFETY: the handler is async-signal-safe: it reads the signal's address and atomics, and
        // makes one system call.
        unsafe {
            store.set_signal_handler(move |signal, info, _| {
                signal == libc::SIGSEGV && handler.written((*info).si_addr() as usize)
            });
        }
        let of_image = vec![0; pages.protected.len()].into();
        Self { pages, far_stack: None, image: None, of_image }
    }

    pub(super) const fn far_stack(&self) -> Option<usize> {
        self.far_stack
    }

    /// How much memory it has charge of: what came by growing since is not protected.
    pub(super) fn bytes(&self) -> usize {
        self.pages.bytes
    }

    pub(super) fn page_bytes(&self) -> usize {
        self.pages.page_bytes
    }

    /// The parts of a stretch that may have been written.
    pub(super) fn written(&self, stretch: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let page = self.pages.page_bytes;
        self.pages
            .unprotected(stretch.start / page..stretch.end.div_ceil(page))
            .map(move |index| (index * page).max(stretch.start)..((index + 1) * page).min(stretch.end))
    }

    pub(super) fn all_protected(&self, stretch: Range<usize>) -> bool {
        self.written(stretch).next().is_none()
    }

    /// Says that protected pages below `far_stack` are zero from now on, and all others initial.
    pub(super) fn begin(&mut self, far_stack: usize) {
        self.far_stack = Some(far_stack);
        self.pages.far_stack.store(far_stack / self.pages.page_bytes, Ordering::Relaxed);
    }

    /// Makes the whole pages of a stretch read-only. Their content must be what [`Guard::begin`] says.
    pub(super) fn protect(&self, stretch: Range<usize>) -> Result<(), Errno> {
        let page = self.pages.page_bytes;
        let first = stretch.start.div_ceil(page);
        // Memory that came by growing since has no bit, and is not protected.
        let end = (stretch.end / page).min(self.pages.protected.len() * 64);
        if first >= end {
            return Ok(());
        }
        self.pages.set_access(first..end, libc::PROT_READ)?;
        (first..end).for_each(|index| self.pages.mark(index, true));
        Ok(())
    }

    /// Makes a stretch writable: what the host is about to write outside of the guest's run, where
    /// nobody handles a fault.
    pub(super) fn unprotect(&self, stretch: Range<usize>) -> Result<(), Errno> {
        let page = self.pages.page_bytes;
        let mut pages = stretch.start / page..stretch.end.div_ceil(page);
        while let Some(first) = pages.find(|&index| self.pages.is_protected(index)) {
            let end = pages.find(|&index| !self.pages.is_protected(index)).unwrap_or(pages.end);
            self.pages.set_access(first..end, libc::PROT_READ | libc::PROT_WRITE)?;
            (first..end).for_each(|index| self.pages.mark(index, false));
        }
        Ok(())
    }

    /// Says which image is restored next: how often it has been before, without another in between. When
    /// it is another, what was protected for the last one is writable again.
    pub(super) fn expect(&mut self, image: u64) -> Result<u32, Errno> {
        let times = match self.image {
            Some((last, times)) if last == image => times,
            _ => {
                self.forget_image()?;
                0
            }
        };
        self.image = Some((image, times.saturating_add(1)));
        Ok(times)
    }

    /// Makes the whole pages of a stretch read-only, which hold what the expected image has there.
    pub(super) fn protect_for_image(&mut self, stretch: Range<usize>) -> Result<(), Errno> {
        let page = self.pages.page_bytes;
        let pages = stretch.start.div_ceil(page)..(stretch.end / page).min(self.of_image.len() * 64);
        self.protect(stretch)?;
        pages.for_each(|index| self.of_image[index / 64] |= 1 << (index % 64));
        Ok(())
    }

    fn forget_image(&mut self) -> Result<(), Errno> {
        if self.image.take().is_some() {
            let page = self.pages.page_bytes;
            let is_of_image = |index: usize| self.of_image[index / 64] & (1 << (index % 64)) != 0;
            let mut pages = 0..self.of_image.len() * 64;
            while let Some(first) = pages.find(|&index| is_of_image(index)) {
                let end = pages.find(|&index| !is_of_image(index)).unwrap_or(pages.end);
                self.unprotect(first * page..end * page)?;
            }
            self.of_image.fill(0);
        }
        Ok(())
    }

    /// Makes everything writable again.
    pub(super) fn end(&mut self) -> Result<(), Errno> {
        self.of_image.fill(0);
        self.image = None;
        if self.far_stack.take().is_some() {
            self.unprotect(0..self.pages.protected.len() * 64 * self.pages.page_bytes)?;
        }
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The engine gives the memory to its next guest and takes it to be writable. Should this
        // fail, that guest faults and the worker is replaced.
        let _ = self.end();
    }
}

impl Pages {
    fn is_protected(&self, index: usize) -> bool {
        let word = self.protected.get(index / 64);
        word.is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (index % 64)) != 0)
    }

    /// Those of some pages that are not protected. Most are, so it looks at 64 at a time.
    fn unprotected(&self, pages: Range<usize>) -> impl Iterator<Item = usize> {
        let words = pages.start / 64..pages.end.div_ceil(64);
        words.flat_map(move |word| {
            let protected = self.protected.get(word).map_or(0, |bits| bits.load(Ordering::Relaxed));
            let first = pages.start.saturating_sub(word * 64);
            let beyond = 64 - (pages.end - word * 64).min(64);
            let asked = (u64::MAX << first) & (u64::MAX >> beyond);
            Ones(asked & !protected).map(move |bit| word * 64 + bit)
        })
    }

    fn mark(&self, index: usize, protected: bool) {
        let word = &self.protected[index / 64];
        if protected {
            word.fetch_or(1 << (index % 64), Ordering::Relaxed);
        } else {
            word.fetch_and(!(1 << (index % 64)), Ordering::Relaxed);
        }
    }

    /// Called in the signal handler: lets a write go on if it was to a page protected here. Any other
    /// fault is the guest's own.
    fn written(&self, address: usize) -> bool {
        let Some(offset) = address.checked_sub(self.start) else {
            return false;
        };
        let index = offset / self.page_bytes;
        if !self.is_protected(index) {
            return false;
        }
        let far_stack = self.far_stack.load(Ordering::Relaxed);
        let pages = if index < far_stack { 0..far_stack } else { index..index + 1 };
        let writable = self.set_access(pages.clone(), libc::PROT_READ | libc::PROT_WRITE).is_ok();
        if writable {
            pages.for_each(|index| self.mark(index, false));
        }
        writable
    }

    fn set_access(&self, pages: Range<usize>, access: i32) -> Result<(), Errno> {
        let start = self.start + pages.start * self.page_bytes;
        let len = pages.len() * self.page_bytes;
        // SAFETY: the stretch lies within the guest's memory, which is accessible; no access that the
        // compiler knows of becomes invalid but writes, and those are resumed by the handler or, by
        // the host outside of a run, announced by `unprotect`.
        Errno::result(unsafe { libc::mprotect(start as *mut libc::c_void, len, access) }).map(drop)
    }
}

/// The places of the ones in a word.
struct Ones(u64);

impl Iterator for Ones {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let place = self.0.trailing_zeros();
        self.0 &= self.0.checked_sub(1)?;
        Some(place as usize)
    }
}

/// The kernel's page size.
pub(super) fn page_bytes() -> usize {
    let bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    // 64 KiB is a multiple of every page size there is.
    bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(64 << 10)
}
