//! Memory images: the state of a guest right after it loaded a script.
//!
//! Every execution starts from such an image. Restoring puts back **every** byte of linear memory
//! that can have been written, and every mutable global (`build.rs` proves that the stack pointer is
//! the only one), so nothing of the last execution is left, whatever it touched. What cannot have
//! been written is known from the processor: see `guard.rs`.

use std::collections::{HashMap, hash_map};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::{Result, Val};

use super::discard::discard;
use super::machine::Machine;

/// Granularity at which an image is compared with the guest's initial memory.
const PAGE: usize = 4096;
/// Buffer for inputs that is part of every image, so that most executions need not ask for one.
pub(super) const INPUT_BYTES: usize = 8 << 10;

/// The part of the stack that most executions use: it is compared and cleared like other memory.
const NEAR_STACK_BYTES: usize = 64 << 10;
/// A multiple of every page size there is.
const DISCARD_BYTES: usize = 64 << 10;

/// Executions of one script in a row after which its image's own pages are protected too, those that the
/// last one left alone. Where scripts alternate it would cost more faults than it saves comparing.
const SETTLED_AFTER: u32 = 8;

/// Of an image's own bytes, and of the zeros that it adds to the guest's initial memory, those that are put back
/// for nothing: far more than ordinary scripts have.
const FREE_BYTES: usize = 1 << 20;
/// Fuel for each own byte beyond: at 10,000 a microsecond, copying 5 GB in a second.
const FUEL_PER_OWN_BYTE: u64 = 2;
/// Fuel for each added zero beyond: looking at 10 GB in a second. At those of a memory that is too large to be kept
/// nobody looks, but then a guest is made for each execution, which takes as long as looking at 10 MB.
const FUEL_PER_ZERO: u64 = 1;

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Where a stretch of an image comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Zero,
    /// Same as in the guest's initial memory.
    Base,
    /// Differs; stored from this offset of the image's own bytes.
    Own(usize),
}

#[derive(Debug)]
struct Run {
    start: usize,
    end: usize,
    source: Source,
}

/// A whole linear memory, stored as its difference from the initial one.
#[derive(Debug)]
pub(crate) struct Image {
    /// Tells it apart from every other image there ever was in this process.
    id: u64,
    base: Arc<[u8]>,
    own: Vec<u8>,
    runs: Vec<Run>,
    memory_bytes: usize,
    fuel: u64,
    /// The memory below this is the far part of the stack: given back to the kernel after every
    /// execution, which gives out only zeroed pages.
    far_stack: usize,
    stack_pointer: Val,
    /// Where an input of up to [`INPUT_BYTES`] may be written before a run.
    pub(super) input: u32,
    /// The [`shared::guest_abi::LoadReply`] of the load, which every compilation is answered with.
    pub(super) report: Vec<u8>,
}

impl Image {
    /// Takes the machine's present state. The unused stack below the stack pointer is taken as
    /// zero: nothing reads it, and what the compiler left there is of no use to a script.
    pub(super) fn capture(machine: &mut Machine, base: &Arc<[u8]>, input: u32, report: Vec<u8>) -> Self {
        let stack_pointer = machine.stack_pointer();
        let unused_stack = stack_pointer.i32().and_then(|sp| usize::try_from(sp).ok()).unwrap_or(0);
        let memory = machine.memory.data_mut(&mut machine.store);
        memory[..unused_stack].fill(0);
        let far_stack = unused_stack.saturating_sub(NEAR_STACK_BYTES) / DISCARD_BYTES * DISCARD_BYTES;
        let mut image = Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            base: base.clone(),
            own: Vec::new(),
            runs: Vec::new(),
            memory_bytes: memory.len(),
            fuel: 0,
            far_stack,
            stack_pointer,
            input,
            report,
        };
        for (index, page) in memory[far_stack..].chunks(PAGE).enumerate() {
            image.push_page(far_stack + index * PAGE, page);
        }
        image.own.shrink_to_fit();
        image.fuel = price(image.own.len(), image.added_zeros());
        image
    }

    /// How many bytes beyond the guest's initial memory are zero.
    fn added_zeros(&self) -> usize {
        let zeros = self.runs.iter().filter(|run| run.source == Source::Zero);
        zeros.map(|run| run.end.saturating_sub(run.start.max(self.base.len()))).sum()
    }

    fn push_page(&mut self, start: usize, page: &[u8]) {
        let end = start + page.len();
        let source = if page.iter().all(|&byte| byte == 0) {
            Source::Zero
        } else if self.base.get(start..end) == Some(page) {
            Source::Base
        } else {
            self.own.extend_from_slice(page);
            Source::Own(self.own.len() - page.len())
        };
        if let Some(last) = self.runs.last_mut() {
            let continues = match (last.source, source) {
                (Source::Own(from), Source::Own(offset)) => from + (last.end - last.start) == offset,
                (left, right) => left == right,
            };
            if continues {
                last.end = end;
                return;
            }
        }
        self.runs.push(Run { start, end, source });
    }

    /// How large the memory is of whatever starts from it.
    pub(super) const fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// What putting it back burns, whether or not it has to be: what an execution burns must not depend on what ran
    /// before. A script of a few instructions with a large image would else be had for nothing.
    pub(super) const fn fuel(&self) -> u64 {
        self.fuel
    }

    /// Whether the machine's memory has the image's size. It may be larger when a script grew it,
    /// and memory never shrinks.
    pub(super) fn fits(&self, machine: &Machine) -> bool {
        machine.memory_bytes() == self.memory_bytes
    }

    /// Makes a machine on which nothing has run yet into this image.
    pub(super) fn install(&self, machine: &mut Machine) -> Result<()> {
        let initial = machine.memory_bytes();
        self.grow(machine)?;
        machine.set_stack_pointer(self.stack_pointer)?;
        self.put_back_all(machine, initial)
    }

    fn grow(&self, machine: &mut Machine) -> Result<()> {
        let missing = self.memory_bytes.saturating_sub(machine.memory_bytes());
        machine.store.data_mut().limiter.memory_bytes = self.memory_bytes;
        let pages = machine.memory.page_size(&machine.store);
        machine.memory.grow(&mut machine.store, missing as u64 / pages)?;
        Ok(())
    }

    /// Puts all of the machine's state back to this image.
    pub(super) fn restore(&self, machine: &mut Machine) -> Result<()> {
        machine.set_stack_pointer(self.stack_pointer)?;
        if machine.guard.far_stack() == Some(self.far_stack) {
            let times = machine.guard.expect(self.id)?;
            return self.restore_written(machine, times);
        }
        self.put_back_all(machine, usize::MAX)
    }

    /// Puts back everything, and protects what is as in the initial memory. From `untouched` on nothing was ever
    /// written: what is to be zero there is, and the kernel need not make pages of it only for them to be compared.
    fn put_back_all(&self, machine: &mut Machine, untouched: usize) -> Result<()> {
        machine.guard_all()?;
        let memory = machine.memory.data_mut(&mut machine.store);
        discard(&mut memory[..self.far_stack])?;
        for run in &self.runs {
            let end = if run.source == Source::Zero { run.end.min(untouched) } else { run.end };
            if run.start < end {
                self.put_back(run, run.start..end, memory);
            }
        }
        machine.guard.begin(self.far_stack);
        machine.guard.protect(0..self.far_stack)?;
        for run in self.runs.iter().filter(|run| run.source == Source::Base) {
            machine.guard.protect(run.start..run.end)?;
        }
        Ok(())
    }

    /// Puts back what is not protected. What is has been as it must be ever since it was protected: initial
    /// memory, or this image's own after it was restored so many `times` without another in between.
    fn restore_written(&self, machine: &mut Machine, times: u32) -> Result<()> {
        let Machine { guard, memory, store, .. } = machine;
        let memory = memory.data_mut(store);
        if !guard.all_protected(0..self.far_stack) {
            discard(&mut memory[..self.far_stack])?;
            guard.protect(0..self.far_stack)?;
        }
        let mut left_alone = Vec::new();
        for run in &self.runs {
            if run.source != Source::Base && times == 0 {
                guard.unprotect(run.start..run.end)?;
            }
            for written in guard.written(run.start..run.end) {
                let was_right = self.put_back(run, written.clone(), memory);
                if was_right && run.source != Source::Base && times == SETTLED_AFTER {
                    left_alone.push(written);
                }
            }
        }
        // Neighbours together: each call to the kernel costs more than a page.
        let stretches = left_alone.chunk_by(|one, next| one.end == next.start);
        stretches
            .flat_map(|pages| Some(pages.first()?.start..pages.last()?.end))
            .try_for_each(|stretch| guard.protect_for_image(stretch))?;
        Ok(())
    }

    /// Makes a stretch of a run what it must be; true when it was.
    fn put_back(&self, run: &Run, stretch: Range<usize>, memory: &mut [u8]) -> bool {
        let (start, end) = (stretch.start, stretch.end);
        let target = &mut memory[start..end];
        match run.source {
            Source::Zero => put_back_pages(target, std::iter::repeat(ZERO_PAGE.as_slice())),
            Source::Base => put_back_pages(target, self.base[start..end].chunks(PAGE)),
            Source::Own(offset) => {
                let own = offset + (start - run.start);
                put_back_pages(target, self.own[own..own + target.len()].chunks(PAGE))
            }
        }
    }

    fn own_bytes(&self) -> usize {
        self.own.len() + self.report.len() + self.runs.len() * size_of::<Run>()
    }
}

/// What putting an image back burns.
const fn price(own: usize, added_zeros: usize) -> u64 {
    let own = own.saturating_sub(FREE_BYTES) as u64 * FUEL_PER_OWN_BYTE;
    own + added_zeros.saturating_sub(FREE_BYTES) as u64 * FUEL_PER_ZERO
}

static ZERO_PAGE: [u8; PAGE] = [0; PAGE];

/// Makes pages what they must be; true when all were. Most are; reading to see so is cheaper than
/// writing, and leaves the cache to the script.
fn put_back_pages<'a>(target: &mut [u8], source: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut was_right = true;
    for (page, wanted) in target.chunks_mut(PAGE).zip(source) {
        let wanted = &wanted[..page.len()];
        if page != wanted {
            page.copy_from_slice(wanted);
            was_right = false;
        }
    }
    was_right
}

/// A bundle the parent has named, with its image once it has been loaded.
#[derive(Debug)]
struct Entry {
    load: Arc<[u8]>,
    image: Option<Arc<Image>>,
    last_used: u64,
}

/// The bundles of this worker, by handle. Images are dropped, least recently used first, when they
/// take more memory than allowed; they can be made again.
#[derive(Debug)]
pub(crate) struct Images {
    entries: HashMap<u32, Entry>,
    base: Option<Arc<[u8]>>,
    bytes: usize,
    bytes_max: usize,
    clock: u64,
}

impl Images {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { entries: HashMap::new(), base: None, bytes: 0, bytes_max, clock: 0 }
    }

    /// Names a bundle; false when the handle is taken.
    pub(crate) fn add(&mut self, handle: u32, load: &[u8]) -> bool {
        let hash_map::Entry::Vacant(vacant) = self.entries.entry(handle) else {
            return false;
        };
        vacant.insert(Entry { load: load.into(), image: None, last_used: self.clock });
        true
    }

    /// Forgets a bundle; false when there is none.
    pub(crate) fn remove(&mut self, handle: u32) -> bool {
        let Some(entry) = self.entries.remove(&handle) else {
            return false;
        };
        self.bytes -= entry.image.map_or(0, |image| image.own_bytes());
        true
    }

    pub(crate) fn contains(&self, handle: u32) -> bool {
        self.entries.contains_key(&handle)
    }

    /// The [`shared::guest_abi::LoadRequest`] of a bundle.
    pub(super) fn load_request(&self, handle: u32) -> Option<Arc<[u8]>> {
        self.entries.get(&handle).map(|entry| entry.load.clone())
    }

    pub(super) fn get(&mut self, handle: u32) -> Option<Arc<Image>> {
        self.clock += 1;
        let entry = self.entries.get_mut(&handle)?;
        entry.last_used = self.clock;
        entry.image.clone()
    }

    /// The guest's initial memory, taken from a machine on which nothing has run yet.
    pub(super) fn base(&mut self, machine: &Machine) -> Arc<[u8]> {
        self.base.get_or_insert_with(|| machine.memory.data(&machine.store).into()).clone()
    }

    pub(super) fn keep(&mut self, handle: u32, image: &Arc<Image>) {
        let Some(entry) = self.entries.get_mut(&handle) else {
            return;
        };
        if entry.image.is_none() {
            self.bytes += image.own_bytes();
            entry.image = Some(image.clone());
        }
        while self.bytes > self.bytes_max {
            let others =
                self.entries.iter_mut().filter(|(other, entry)| **other != handle && entry.image.is_some());
            let Some((_, oldest)) = others.min_by_key(|(_, entry)| entry.last_used) else {
                return;
            };
            self.bytes -= oldest.image.take().map_or(0, |image| image.own_bytes());
        }
    }
}
