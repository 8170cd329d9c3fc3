//! The guest's allocator: lists of free blocks by size, over the standard library's.
//!
//! An interpreter allocates and frees small blocks all the time: values in boxes, short texts, nodes of maps.
//! Here that is taking a block from a list and putting it back, some ten instructions, which are inlined.
//! A small block stays of its size for the rest of the execution, after which the whole memory is restored.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;

/// Sizes go up in steps of this, which is also what every small block is aligned to.
const STEP: usize = 16;
/// What is larger goes to the standard library's allocator.
const SMALL_MAX: usize = 512;
const CLASSES: usize = SMALL_MAX / STEP;
/// What is taken from it at a time to be cut into small blocks.
const CHUNK_BYTES: usize = 16 << 10;

#[global_allocator]
static ALLOCATOR: Blocks =
    Blocks(UnsafeCell::new(Lists { free: [ptr::null_mut(); CLASSES], rest: ptr::null_mut(), rest_bytes: 0 }));

struct Blocks(UnsafeCell<Lists>);

struct Lists {
    /// The first free block of each size; it begins with the address of the next.
    free: [*mut u8; CLASSES],
    /// What is left of the last chunk.
    rest: *mut u8,
    rest_bytes: usize,
}

// SAFETY: a guest has one thread.
unsafe impl Sync for Blocks {}

const fn is_small(layout: &Layout) -> bool {
    layout.size() <= SMALL_MAX && layout.align() <= STEP
}

/// Which list; blocks of no bytes are not asked for.
const fn class(size: usize) -> usize {
    (size - 1) / STEP
}

/// The standard library's allocator, called and never inlined: it is seldom needed, and large.
#[inline(never)]
unsafe fn large_alloc(layout: Layout) -> *mut u8 {
    // SAFETY: as asked of this function.
    unsafe { System.alloc(layout) }
}

#[inline(never)]
unsafe fn large_dealloc(block: *mut u8, layout: Layout) {
    // SAFETY: as asked of this function.
    unsafe { System.dealloc(block, layout) }
}

#[inline(never)]
unsafe fn large_realloc(block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
    // SAFETY: as asked of this function.
    unsafe { System.realloc(block, layout, size) }
}

impl Lists {
    #[cold]
    #[inline(never)]
    fn cut(&mut self, class: usize) -> *mut u8 {
        let bytes = (class + 1) * STEP;
        if self.rest_bytes < bytes {
            let Ok(chunk) = Layout::from_size_align(CHUNK_BYTES, STEP) else { return ptr::null_mut() };
            // SAFETY: a chunk has bytes.
            let chunk = unsafe { large_alloc(chunk) };
            if chunk.is_null() {
                return chunk;
            }
            self.rest = chunk;
            self.rest_bytes = CHUNK_BYTES;
        }
        let block = self.rest;
        // SAFETY: the rest has at least as many bytes.
        self.rest = unsafe { block.add(bytes) };
        self.rest_bytes -= bytes;
        block
    }
}

// SAFETY: small blocks are cut from chunks without overlap, are of at least the size and alignment asked for,
// and are in a list only while nobody has them; all others are the standard library's.
unsafe impl GlobalAlloc for Blocks {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !is_small(&layout) {
            // SAFETY: as asked of this function.
            return unsafe { large_alloc(layout) };
        }
        // SAFETY: one thread, and nothing that is called here allocates by this allocator.
        let lists = unsafe { &mut *self.0.get() };
        let class = class(layout.size());
        let block = lists.free[class];
        if block.is_null() {
            return lists.cut(class);
        }
        // SAFETY: a free block begins with the address of the next.
        lists.free[class] = unsafe { block.cast::<*mut u8>().read() };
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !is_small(&layout) {
            // SAFETY: as asked of this function; it came from there.
            return unsafe { large_dealloc(block, layout) };
        }
        // SAFETY: as in `alloc`.
        let lists = unsafe { &mut *self.0.get() };
        let class = class(layout.size());
        // SAFETY: the block is free, and has room for an address and its alignment.
        unsafe { block.cast::<*mut u8>().write(lists.free[class]) };
        lists.free[class] = block;
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let new = Layout::from_size_align(size, layout.align());
        // SAFETY: as asked of this function.
        let new = unsafe { new.unwrap_unchecked() };
        match (is_small(&layout), is_small(&new)) {
            // SAFETY: as asked of this function; it came from there.
            (false, false) => unsafe { large_realloc(block, layout, size) },
            (true, true) if class(layout.size()) == class(size) => block,
            _ => {
                // SAFETY: as asked of this function; the old block has `layout.size()` bytes, the new one `size`,
                // and they are two.
                unsafe {
                    let moved = self.alloc(new);
                    if !moved.is_null() {
                        ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    moved
                }
            }
        }
    }
}
